"""Documents to token ids, and which of the tokens are learned from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError
from regraft.data.read import BadRow, Chat, Completion, Document, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TEMPLATE_REMEDY = "mark the assistant's words with {% generation %} in the chat template"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one document, its end-of-text token included; `supervised` [len(ids)] is None where all are."""

    ids: list[int]
    supervised: NDArray[np.bool_] | None = None


Outcome: TypeAlias = Encoded | BadRow


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over all that decides which ids a text gets: the backend, the special tokens, the chat template."""
    backend = json.loads(_fast(tokenizer).backend_tokenizer.to_str())
    # Calls leave their padding and truncation behind in the backend: no property of the tokenizer.
    backend |= {"padding": None, "truncation": None}
    parts = [backend, tokenizer.special_tokens_map, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Tokeniser:
    """Turns batches of documents into ids with a fast tokenizer's own threads (RAYON_NUM_THREADS sets how many).

    A text ends in one end-of-text token and begins with a beginning-of-text token only if the tokenizer adds one.
    A completion is tokenised apart from its prompt, as a model that is given the prompt will write it. A conversation
    is what the chat template makes of it, with an end-of-text token if nothing in its last turn ends it; the
    assistant's turns are supervised.

    Args:
        tokenizer: a fast tokenizer with an end-of-text token.
        chat: render `prompt` and `completion` as a user's and an assistant's turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False) -> None:
        self.tokenizer = _fast(tokenizer)
        self.chat = chat
        if tokenizer.eos_token_id is None:
            raise RegraftError(
                "the tokenizer has no end-of-text token, so documents could not be told apart", do="Set its eos_token"
            )
        self.eos = int(tokenizer.eos_token_id)
        self.added = tokenizer.num_special_tokens_to_add()
        self.largest_id = max(tokenizer.get_vocab().values())

    def encode(self, batch: Sequence[Document]) -> list[Outcome]:
        """One outcome a document, in order: its ids, or why it cannot be used."""
        contents = [_as_chat(d.content) if self.chat else d.content for d in batch]
        outcomes: list[Outcome] = []
        for kind, group in groupby(contents, key=type):
            outcomes += _ENCODERS[kind](self, list(group))
        return outcomes

    def _texts(self, texts: list[Text]) -> list[Outcome]:
        return [self._text(ids) for ids in self._ids([t.text for t in texts])]

    def _text(self, ids: list[int]) -> Outcome:
        if len(ids) <= self.added:
            return BadRow("zero tokens")
        return Encoded(self._ended(ids))

    def _completions(self, pairs: list[Completion]) -> list[Outcome]:
        prompts = self._ids([p.prompt for p in pairs])
        completions = self._ids([p.completion for p in pairs], special=False)
        return [self._completion(*pair) for pair in zip(prompts, completions, strict=True)]

    def _completion(self, prompt: list[int], completion: list[int]) -> Outcome:
        if not completion:
            return BadRow("zero tokens", " in the completion")
        while self.added and prompt and prompt[-1] == self.eos:
            prompt = prompt[:-1]
        answer = self._ended(completion)
        return Encoded(prompt + answer, np.arange(len(prompt) + len(answer)) >= len(prompt))

    def _chats(self, chats: list[Chat]) -> list[Outcome]:
        template = self.tokenizer.chat_template and self.tokenizer.get_chat_template()
        if not template:
            raise RegraftError(
                "the rows hold `messages` but the tokenizer has no chat template", do="Set its chat_template"
            )
        render = self._marked if _GENERATION.search(template) else self._unmarked
        outcomes: list[Outcome] = []
        for _, group in groupby(chats, key=lambda c: c.tools):
            outcomes += render(list(group))
        return [self._chat_end(outcome) for outcome in outcomes]

    def _chat_end(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, BadRow):
            return outcome
        assert outcome.supervised is not None
        if not outcome.supervised.any():
            return BadRow("no assistant turn", ": the chat template shows none")
        last = int(outcome.supervised.nonzero()[0][-1])
        if self.eos in outcome.ids[last:]:
            return outcome
        speaks_last = last >= len(outcome.ids) - 2
        return Encoded([*outcome.ids, self.eos], np.append(outcome.supervised, speaks_last))

    def _marked(self, chats: list[Chat]) -> list[Outcome]:
        """Conversations whose template marks the assistant's words with {% generation %}."""
        try:
            made = self.tokenizer.apply_chat_template(
                [c.messages for c in chats], tools=chats[0].tools, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception as error:
            return [_refusal(error)] if len(chats) == 1 else [o for c in chats for o in self._marked([c])]
        pairs = zip(made["input_ids"], made["assistant_masks"], strict=True)
        return [Encoded(ids, np.array(mask, dtype=bool)) for ids, mask in pairs]

    def _unmarked(self, chats: list[Chat]) -> list[Outcome]:
        """Conversations whose assistant turns are found by rendering the conversation up to and with each of them."""
        rendered = [self._spans(chat) for chat in chats]
        whole = [r for r in rendered if not isinstance(r, BadRow)]
        made = self._call([text for text, _ in whole], add_special_tokens=False, return_offsets_mapping=True)
        encoded = iter([_masked(*row) for row in zip(made["input_ids"], made["offset_mapping"], whole, strict=True)])
        return [r if isinstance(r, BadRow) else next(encoded) for r in rendered]

    def _spans(self, chat: Chat) -> tuple[str, list[tuple[int, int]]] | BadRow:
        try:
            text = self._render(chat.messages, chat.tools)
            spans = []
            for at, turn in enumerate(chat.messages):
                if turn["role"] != "assistant":
                    continue
                before = self._render(chat.messages[:at], chat.tools, prompting=True) if at else ""
                through = self._render(chat.messages[: at + 1], chat.tools)
                if not (text.startswith(through) and through.startswith(before)):
                    return BadRow(
                        "the assistant's turns cannot be told from the rest", f" (messages[{at}]): {_TEMPLATE_REMEDY}"
                    )
                spans.append((len(before), len(through)))
        except Exception as error:
            return _refusal(error)
        return text, spans

    def _render(self, messages: list[dict[str, Any]], tools: list[Any] | None, *, prompting: bool = False) -> str:
        rendered = self.tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=prompting
        )
        return str(rendered)

    def _ids(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        return list(self._call(texts, add_special_tokens=special)["input_ids"])

    def _call(self, texts: list[str], **knobs: bool) -> Any:
        if not texts:
            return {"input_ids": [], "offset_mapping": []}
        return self.tokenizer(texts, return_attention_mask=False, return_token_type_ids=False, verbose=False, **knobs)

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if ids[-1] == self.eos else [*ids, self.eos]


_ENCODERS: dict[type, Callable[[Tokeniser, Any], list[Outcome]]] = {
    Text: Tokeniser._texts,
    Completion: Tokeniser._completions,
    Chat: Tokeniser._chats,
}


def _as_chat(content: Text | Chat | Completion) -> Text | Chat | Completion:
    if not isinstance(content, Completion):
        return content
    turns = [{"role": "user", "content": content.prompt}, {"role": "assistant", "content": content.completion}]
    return Chat(turns)


def _masked(ids: list[int], offsets: list[tuple[int, int]], rendered: tuple[str, list[tuple[int, int]]]) -> Outcome:
    starts = np.array(offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
    supervised = np.zeros(len(ids), dtype=bool)
    for begin, end in rendered[1]:
        supervised |= (starts >= begin) & (starts < end)
    return Encoded(ids, supervised)


def _refusal(error: Exception) -> BadRow:
    said = str(error).strip() or repr(error)
    return BadRow("the chat template refuses the row", f": {said.splitlines()[0]}")


def _fast(tokenizer: PreTrainedTokenizerBase) -> Any:
    if not tokenizer.is_fast:
        raise RegraftError(
            f"{type(tokenizer).__name__} is not a fast tokenizer", do="Save it with a tokenizer.json and load that"
        )
    return tokenizer
