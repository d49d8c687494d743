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
from regraft.data.document import BadRow, Chat, Completion, Document, Text, first_line

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


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A conversation as text, and the spans of characters that are the assistant's."""

    text: str
    spans: list[tuple[int, int]]

    def encoded(self, ids: list[int], offsets: list[tuple[int, int]]) -> Encoded:
        starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
        # Backends may trim the offsets of a space to nothing: then it starts where the token before it ends.
        starts = np.where(starts == ends, np.minimum(starts, np.append(0, ends[:-1])), starts)
        supervised = np.zeros(len(ids), dtype=bool)
        for begin, end in self.spans:
            supervised |= (starts >= begin) & (starts < end)
        return Encoded(ids, supervised)


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
        self.adds_end = self.added > 0 and tokenizer("a", verbose=False)["input_ids"][-1] == self.eos
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
        prompt = prompt[:-1] if self.adds_end else prompt
        answer = self._ended(completion)
        return Encoded(prompt + answer, np.arange(len(prompt) + len(answer)) >= len(prompt))

    def _chats(self, chats: list[Chat]) -> list[Outcome]:
        template = self.tokenizer.chat_template and self.tokenizer.get_chat_template()
        if not template:
            raise RegraftError(
                "the rows hold `messages` but the tokenizer has no chat template", do="Set its chat_template"
            )
        spans = self._marked if _GENERATION.search(template) else self._unmarked
        rendered = [_refused_or(spans, chat) for chat in chats]
        whole = [r for r in rendered if not isinstance(r, BadRow)]
        made = self._call([r.text for r in whole], add_special_tokens=False, return_offsets_mapping=True)
        rows = iter(zip(made["input_ids"], made["offset_mapping"], strict=True))
        return [r if isinstance(r, BadRow) else self._chat_end(r.encoded(*next(rows))) for r in rendered]

    def _chat_end(self, encoded: Encoded) -> Outcome:
        assert encoded.supervised is not None
        if not encoded.supervised.any():
            return BadRow("no assistant turn", ": the chat template shows none")
        last = int(encoded.supervised.nonzero()[0][-1])
        if self.eos in encoded.ids[last:]:
            return encoded
        return Encoded([*encoded.ids, self.eos], np.append(encoded.supervised, last == len(encoded.ids) - 1))

    def _marked(self, chat: Chat) -> _Rendered | BadRow:
        """Where the template itself marks the assistant's words, with {% generation %}."""
        from transformers.utils.chat_template_utils import render_jinja_template

        # The tokenizer's own `return_assistant_tokens_mask` fails on an empty turn, and where a turn ends in a space
        # whose offsets the backend trims it marks everything after it.
        made: Any = render_jinja_template(
            conversations=[chat.messages],
            tools=chat.tools,
            chat_template=self.tokenizer.get_chat_template(),
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        (text,), (spans,) = made
        return _Rendered(text, spans)

    def _unmarked(self, chat: Chat) -> _Rendered | BadRow:
        """Where the conversation rendered up to and with each of the assistant's turns says that they are."""
        text = self._render(chat, len(chat.messages))
        spans = []
        for at, turn in enumerate(chat.messages):
            if turn["role"] != "assistant":
                continue
            before = self._render(chat, at, prompting=True) if at else ""
            through = self._render(chat, at + 1)
            if not (text.startswith(through) and through.startswith(before)):
                remedy = f" (messages[{at}]): {_TEMPLATE_REMEDY}"
                return BadRow("the assistant's turns cannot be told from the rest", remedy)
            spans.append((len(before), len(through)))
        return _Rendered(text, spans)

    def _render(self, chat: Chat, turns: int, *, prompting: bool = False) -> str:
        rendered = self.tokenizer.apply_chat_template(
            chat.messages[:turns], tools=chat.tools, tokenize=False, add_generation_prompt=prompting
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


def _refused_or(spans: Callable[[Chat], _Rendered | BadRow], chat: Chat) -> _Rendered | BadRow:
    try:
        return spans(chat)
    except Exception as error:  # a template may raise anything
        return BadRow("the chat template refuses the row", f": {first_line(error)}")


def _fast(tokenizer: PreTrainedTokenizerBase) -> Any:
    if not tokenizer.is_fast:
        raise RegraftError(
            f"{type(tokenizer).__name__} is not a fast tokenizer", do="Save it with a tokenizer.json and load that"
        )
    return tokenizer
