"""Items as rows that a model is asked: the tokens of each prompt, what it should answer, which skills it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.document import first_line
from regraft.evidence.items import Item, Items, trailing_specials
from regraft.models.causal import CausalLM

UNTAGGED = "untagged"


def asked(model: CausalLM, items: Items, *, tokens: int, chat: bool = False) -> tuple[Rows, Mapping[str, int]]:
    """Columns `prompt`, `prompt_ids`, `answer` (those accepted), `skills`, `id`, `row`; how many were left out, by why.

    Args:
        tokens: that must have room after a prompt.
        chat: prompts are a user's turn, put through the model's chat template; conversations always are.

    Raises RegraftError where no item is left, for a model without a tokenizer, or without the template asked for.
    """
    if model.tokenizer is None:
        raise RegraftError("the model has no tokenizer", do="Adopt a folder that has its tokenizer.json")
    ids = _ids(model.tokenizer, items.items, chat)
    room = (model.context or 1 << 62) - tokens
    fits = [0 < len(each) <= room for each in ids]
    kept = [item for item, fit in zip(items.items, fits, strict=True) if fit]
    if not kept:
        raise RegraftError(
            f"none of {len(ids)} prompts leaves room for {tokens} tokens in the model's context of {model.context}",
            where=items.name,
        )
    rows = Rows(
        {
            "prompt": [item.prompt for item in kept],
            "prompt_ids": [each for each, fit in zip(ids, fits, strict=True) if fit],
            "answer": [_accepted(item) for item in kept],
            "skills": [item.tags or (UNTAGGED,) for item in kept],
            "id": [item.id for item in kept],
            "row": torch.arange(len(kept)),
        }
    )
    out = len(ids) - len(kept)
    return rows, {f"empty, or no room for {tokens} tokens after it in the model's context": out} if out else {}


def wordings(model: CausalLM, items: Sequence[Item]) -> list[list[int]]:
    """What each item says, in tokens: its prompt alone, or the turns of its conversation, without any template."""
    if not items:
        return []
    texts = [_spoken(json.loads(item.prompt)["messages"]) if item.chat else item.prompt for item in items]
    found: list[list[int]] = model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return found


def _spoken(turns: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(str(turn["content"]) for turn in turns if turn.get("content"))


def _accepted(item: Item) -> list[str]:
    return list(item.choices) if item.answer is None else [item.choices[item.answer]]


def _ids(tokenizer: Any, items: Sequence[Item], chat: bool) -> list[list[int]]:
    talk = [chat or item.chat for item in items]
    found: dict[bool, Iterator[list[int]]] = {
        True: iter(_chats(tokenizer, [item for item, turns in zip(items, talk, strict=True) if turns])),
        False: iter(_texts(tokenizer, [item for item, turns in zip(items, talk, strict=True) if not turns])),
    }
    return [next(found[turns]) for turns in talk]


def _texts(tokenizer: Any, items: Sequence[Item]) -> list[list[int]]:
    if not items:
        return []
    trailing = trailing_specials(tokenizer)
    return [ids[: len(ids) - trailing] for ids in tokenizer([i.prompt for i in items], verbose=False)["input_ids"]]


def _chats(tokenizer: Any, items: Sequence[Item]) -> list[list[int]]:
    if not items:
        return []
    if not getattr(tokenizer, "chat_template", None):
        raise RegraftError("the model has no chat template", where="--chat", do="Leave it out, or give prompts")
    texts = [_rendered(tokenizer, item) for item in items]
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return found


def _rendered(tokenizer: Any, item: Item) -> str:
    turns = json.loads(item.prompt) if item.chat else {"messages": [{"role": "user", "content": item.prompt}]}
    try:
        return str(
            tokenizer.apply_chat_template(
                turns["messages"], tools=turns.get("tools"), tokenize=False, add_generation_prompt=True
            )
        )
    except Exception as error:  # a template may raise anything
        raise RegraftError(f"the chat template refuses the row: {first_line(error)}", where=item.where) from None
