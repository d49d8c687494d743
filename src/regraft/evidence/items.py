"""Items: questions that are right or wrong, scored by log-likelihood without generating."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from regraft.core.errors import RegraftError
from regraft.core.names import regular_file, utf8_name
from regraft.data.corpus import canonical
from regraft.data.document import BadRow, conversation, ill_typed, parse_json
from regraft.data.read import MAX_LINE_BYTES, InputFile, read_json
from regraft.evidence.readings import CORRECT, Reading
from regraft.evidence.scoring import TIE, Index, Mask, Pieces, Scores, Vector, counting, score
from regraft.models.causal import CausalLM

Normalise: TypeAlias = Literal["none", "tokens", "bytes"]
NORMALISE: tuple[Normalise, ...] = ("none", "tokens", "bytes")

LISTED = 20  # skipped items that are listed; all of them are counted
UNREADABLE = "too long for the model's context, or a choice without a token of its own"
COPY = "a copy of another question"

_PREVIEW_CHARACTERS = 160
_FIELDS = "`prompt`, `choices` and `answer`, or `prompt` (or `messages`) and `answer`"


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: its own, or 32 hex digits of a hash over its content.
        prompt: what the model reads.
        choices: what may follow the prompt, character for character: nothing, not even a space, is put between.
        answer: which of the choices is right; None where each of them is (an exact answer is asked for).
        tags: the skills it shows.
        where: its `file:line`.
        chat: the prompt is the canonical JSON of `messages` that end where the model is to answer, and of `tools`.
    """

    id: str
    prompt: str
    choices: tuple[str, ...]
    answer: int | None
    tags: tuple[str, ...] = ()
    where: str = ""
    chat: bool = False


@dataclass(frozen=True)
class Items:
    """Questions that are right or wrong: a multiple choice, or an exact answer.

    Multiple choice: right when the log-likelihood of the right choice, given the prompt, leads that of every other by
    more than `TIE`; the continuous companion is that lead, in nats (per token, per byte). Exact answer: right when
    greedy decoding would write one of the accepted answers (and then `stop`), found by reading prompt and answer at
    once: each token of the answer leads every other by more than `TIE`. The continuous companion is the mean
    log-probability of the answer's tokens, of the likeliest answer.

    Prompt and choice are tokenised together, and the tokens that reach past the prompt's last character are scored. All
    choices of an item are scored from the same token on: the first where any of them reaches past the prompt, or where
    their tokens first differ; so a token that spans the boundary takes the same characters into every choice's score. A
    tokenizer without offsets tokenises the choice apart. What the tokenizer puts before a text (a beginning-of-text
    token) stays, what it puts after is taken off; an item that would begin with a scored token is read after the
    beginning-of-text token, or else the end-of-text token.

    Args:
        name: of the suite.
        items: all of one kind, with different ids.
        normalise: what a choice's log-likelihood is divided by: its tokens, its UTF-8 bytes, or 1 (`none`).
        stop: for exact answers, the text that must follow, such as a line end or an end-of-text token.
        skip_bad: pass over items that are too long for a model, instead of stopping at the first.
        skipped: how many rows were passed over when the items were read, by reason.
        first_skipped: `file:line: why` of the first of them.
    """

    name: str
    items: tuple[Item, ...]
    normalise: Normalise = "none"
    stop: str | None = None
    skip_bad: bool = False
    skipped: Mapping[str, int] = field(default_factory=dict, compare=False)
    first_skipped: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.normalise not in NORMALISE:
            raise RegraftError(f"`normalise` is one of {', '.join(NORMALISE)}, not {self.normalise!r}", where=self.name)
        if self.stop == "":
            raise RegraftError("`stop` is empty", where=self.name, do="Leave it out, or give the text that must follow")
        if not self.items:
            raise RegraftError(f"no items{_note(self.skipped)}", where=self.name)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        normalise: Normalise = "none",
        stop: str | None = None,
        skip_bad: bool = False,
    ) -> Items:
        """Items from a JSONL file (or a JSON list), one object each.

        Fields: `prompt`, `choices`, `answer` (one of them, or its index), or `prompt`, `answer` (a text, or the list of
        those accepted); and, if they like, `id` and `tags`, a list of strings. Other fields are not read. `messages`,
        and with them `tools`, in place of `prompt` are a conversation that the model is to answer, in its own words.

        Raises RegraftError with `file:line` for the first bad row.
        """
        path = Path(path)
        found = ((f"{path}:{line}", row) for line, row in rows(path))
        return cls._parse(name or path.stem, found, normalise, stop, skip_bad)

    @classmethod
    def of(
        cls,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        *,
        normalise: Normalise = "none",
        stop: str | None = None,
        skip_bad: bool = False,
    ) -> Items:
        """Items from rows as `read` takes them."""
        return cls._parse(
            name, ((f"{name}:{at}", row) for at, row in enumerate(rows, start=1)), normalise, stop, skip_bad
        )

    @classmethod
    def _parse(
        cls, name: str, rows: Iterable[tuple[str, object]], normalise: Normalise, stop: str | None, skip_bad: bool
    ) -> Items:
        items: dict[str, Item] = {}
        skipped: Counter[str] = Counter()
        first: list[str] = []
        for where, row in rows:
            try:
                item = _item(row, where)
                if item.id in items and "id" not in (row if isinstance(row, Mapping) else ()):
                    skipped[COPY] += 1
                    continue
                _fits(item, items)
            except BadRow as problem:
                if not skip_bad:
                    raise RegraftError(str(problem), where=where) from None
                skipped[problem.reason] += 1
                first += [f"{where}: {problem}"] if len(first) < LISTED else []
                continue
            items[item.id] = item
        return cls(name, tuple(items.values()), normalise, stop, skip_bad, dict(skipped), tuple(first))

    @property
    def multiple_choice(self) -> bool:
        return self.items[0].answer is not None

    @cached_property
    def fingerprint(self) -> str:
        settings = ["choice", self.normalise] if self.multiple_choice else ["exact", self.stop]
        return digest([settings, sorted([i.id, i.prompt, i.choices, i.answer] for i in self.items)])

    def measure(self, model: CausalLM, *, batch_tokens: int | None = None) -> Reading:
        """One verdict per item; items that `skip_bad` passes over are not in the reading: `left_out` counts them."""
        if model.tokenizer is None:
            raise RegraftError("the model has no tokenizer, so it cannot read the items", where=self.name)
        if talk := next((item for item in self.items if item.chat), None):
            do = "Ask them with `diagnose`, or learn from them with `learn --skills`"
            raise RegraftError("`messages` are answered in words, not by likelihood", where=talk.where, do=do)
        spans = _Spans.of(self, model.tokenizer)
        items, spans = self._readable(spans, model.context)
        greedy = not self.multiple_choice
        scores = score(model, spans.pieces, where=self.name, batch_tokens=batch_tokens, greedy=greedy)
        judge = self._choices if self.multiple_choice else self._answers
        correct, continuous = judge(items, spans, scores)
        return Reading(
            suite=self.name,
            fingerprint=self.fingerprint,
            unit=CORRECT,
            lower_is_better=False,
            ids=tuple(item.id for item in items),
            values=correct.astype(np.float64),
            weights=np.ones(len(items)),
            tags=tuple(item.tags for item in items),
            continuous=continuous,
            texts=tuple(preview(item) for item in items),
        )

    def remarks(self, reading: Reading) -> list[str]:
        """What is to be said of a reading of this suite: items it passed over, answers that no checker could judge."""
        count = len(self.items) - len(reading)
        left_out = [f"left out {count}: {UNREADABLE}"] if count else []
        return left_out + [f"{n} answers could not be judged: {why}" for why, n in reading.faults.items()]

    def _readable(self, spans: _Spans, context: int | None) -> tuple[list[Item], _Spans]:
        """The items that the model can read, with their spans; raises for the others unless they are skipped."""
        reads = np.maximum.reduceat(spans.lengths, spans.first)
        too_long = np.zeros(len(reads), dtype=bool) if context is None else reads > context
        empty = np.minimum.reduceat(spans.lengths + 1 - spans.begins, spans.first) < 1
        if not self.skip_bad and (bad := np.flatnonzero(too_long | empty)).size:
            at = int(bad[0])
            what = f"needs a context of {reads[at]} tokens, the model's is {context}"
            if empty[at]:
                what = "has a choice without a token of its own in the model's tokenizer"
            raise RegraftError(f"item {self.items[at].id!r} {what}{_more(bad)}", where=self.items[at].where)
        kept = ~(too_long | empty)
        if not kept.any():
            raise RegraftError(f"no item fits the model's context of {context}", where=self.name)
        return [item for item, keep in zip(self.items, kept, strict=True) if keep], spans.only(kept)

    def _choices(self, items: list[Item], spans: _Spans, scores: Scores) -> tuple[Mask, Vector]:
        per = np.ones(len(scores.targets))
        if self.normalise == "tokens":
            per = scores.targets.astype(np.float64)
        elif self.normalise == "bytes":
            per = np.array([len(choice.encode()) for item in items for choice in item.choices], dtype=np.float64)
        each = scores.log_prob / per
        right = spans.first + np.array([item.answer for item in items])
        others = each.copy()
        others[right] = -np.inf
        margin = each[right] - np.maximum.reduceat(others, spans.first)
        return margin > TIE, margin

    def _answers(self, items: list[Item], spans: _Spans, scores: Scores) -> tuple[Mask, Vector]:
        correct = np.logical_or.reduceat(scores.greedy, spans.first)
        return correct, np.maximum.reduceat(scores.log_prob / scores.targets, spans.first)


@dataclass(frozen=True, eq=False)
class _Spans:
    """The choices of all items in tokens, end to end.

    Attributes:
        tokens: [tokens].
        starts, lengths: [spans] as in `Pieces`.
        begins: [spans] the place in its span of the first token that is scored.
        first: [items] the first span of each item.
    """

    tokens: Index
    starts: Index
    lengths: Index
    begins: Index
    first: Index

    @classmethod
    def of(cls, suite: Items, tokenizer: Any) -> _Spans:
        count = np.array([len(item.choices) for item in suite.items])
        first = count.cumsum() - count
        owner = np.repeat(np.arange(len(count)), count)
        prompts = [item.prompt for item in suite.items]
        stop = "" if suite.stop is None or suite.multiple_choice else suite.stop
        after = [choice + stop for item in suite.items for choice in item.choices]
        encode = _together if tokenizer.is_fast else _apart
        ids, past = encode(tokenizer, [prompts[at] for at in owner], after)
        prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        # One place is kept free before each text, for those that would begin with a scored token.
        sizes = np.array([len(each) for each in ids])
        starts = (sizes + 1).cumsum() - sizes
        tokens = np.fromiter(chain.from_iterable((prefix or 0, *each) for each in ids), dtype=np.int64)
        begins = _first_true(past, counting(sizes), sizes)
        if tokenizer.bos_token_id is not None:
            second = tokens[np.minimum(starts + 1, len(tokens) - 1)]
            twice = (begins > 1) & (tokens[starts] == prefix) & (second == prefix)
            starts, sizes, begins = starts + twice, sizes - twice, begins - twice
        if suite.multiple_choice:
            begins = np.minimum(begins, _divergence(tokens, starts, sizes, first[owner]))
            begins = np.minimum.reduceat(begins, first)[owner]
        if (bare := begins == 0).any() and prefix is None:
            raise RegraftError(
                "the tokenizer has neither a beginning- nor an end-of-text token to begin an item with",
                where=suite.items[owner[bare.argmax()]].where,
            )
        return cls(tokens, starts - bare, sizes - 1 + bare, begins + bare, first)

    def only(self, kept: Mask) -> _Spans:
        """The spans of the items for which `kept` [items] is true."""
        count = np.diff(self.first, append=len(self.starts))
        mine = np.repeat(kept, count)
        count = count[kept]
        return _Spans(self.tokens, self.starts[mine], self.lengths[mine], self.begins[mine], count.cumsum() - count)

    @property
    def pieces(self) -> Pieces:
        counted = np.zeros(len(self.tokens), dtype=bool)
        scored = self.lengths + 1 - self.begins
        counted[np.repeat(self.starts + self.begins, scored) + counting(scored)] = True
        return Pieces(self.tokens, counted, self.starts, self.lengths)


# --- reading items ---------------------------------------------------------------------------------------------------


def rows(path: Path) -> Iterator[tuple[int, object]]:
    """Line numbers and objects of a JSONL file or a JSON list, or the BadRow that a line is."""
    utf8_name(path)
    regular_file(path)
    if path.is_dir():
        raise RegraftError("a folder, not a file of items", where=path)
    for line, raw in read_json(InputFile(str(path), path.stem, "json"), MAX_LINE_BYTES):
        try:
            yield line, parse_json(raw) if isinstance(raw, bytes) else raw
        except BadRow as problem:
            yield line, problem


def _item(row: object, where: str) -> Item:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, Mapping):
        raise BadRow("not an object", f": rows need {_FIELDS}")
    chat = row.get("messages") is not None
    if chat and row.get("prompt") is not None:
        raise BadRow("both `messages` and `prompt`", ": keep one")
    for name in ("answer",) if chat else ("prompt", "answer"):
        if row.get(name) is None:
            raise BadRow(f"field `{name}` is missing", f": rows need {_FIELDS}")
    prompt, tags = _asks(row) if chat else row["prompt"], row.get("tags") or []
    if not isinstance(prompt, str):
        raise ill_typed("prompt", prompt, "a string")
    if not _are_strings(tags):
        raise ill_typed("tags", tags, "a list of strings")
    choices, answer = _exact(row["answer"]) if row.get("choices") is None else _choice(row["choices"], row["answer"])
    own = row.get("id")
    if own is not None and (isinstance(own, bool) or not isinstance(own, str | int)):
        raise ill_typed("id", own, "a string or an integer")
    content = digest([prompt, choices, answer])[:32]
    return Item(content if own is None else str(own), prompt, choices, answer, tuple(dict.fromkeys(tags)), where, chat)


def _asks(row: Mapping[str, Any]) -> str:
    """A conversation as a prompt: it ends with a turn that asks for an answer."""
    said = conversation(dict(row))
    if said.messages[-1]["role"] == "assistant":
        raise BadRow("the last of `messages` is the assistant's", ": end with the turn to answer")
    return canonical(said.fields()).decode()


def _choice(choices: object, answer: object) -> tuple[tuple[str, ...], int]:
    if not isinstance(choices, list | tuple) or not _are_strings(choices):
        raise ill_typed("choices", choices, "a list of strings")
    if len(choices) < 2:
        raise BadRow("fewer than 2 choices", f": {len(choices)}")
    if "" in choices:
        raise BadRow("a choice is empty", f": choices[{choices.index('')}]")
    if len(set(choices)) < len(choices):
        raise BadRow("a choice is there twice", f": {Counter(choices).most_common(1)[0][0]!r}")
    if isinstance(answer, str):
        if answer not in choices:
            spaces = " (one differs in its spaces)" if answer.strip() in {choice.strip() for choice in choices} else ""
            raise BadRow("the answer is not among the choices", f": {answer[:_PREVIEW_CHARACTERS]!r}{spaces}")
        return tuple(choices), choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise ill_typed("answer", answer, "a choice or the index of one")
    if not 0 <= answer < len(choices):
        raise BadRow("the answer is not among the choices", f": index {answer} of {len(choices)}, from 0")
    return tuple(choices), answer


def _exact(answer: object) -> tuple[tuple[str, ...], None]:
    accepted = [answer] if isinstance(answer, str) else answer
    if not isinstance(accepted, list | tuple) or not _are_strings(accepted):
        raise ill_typed("answer", answer, "a string or a list of strings (or give `choices`)")
    if not accepted or "" in accepted:
        raise BadRow("the answer is empty")
    return tuple(dict.fromkeys(accepted)), None


def _fits(item: Item, items: Mapping[str, Item]) -> None:
    """Raises BadRow for an item that cannot stand beside those before it."""
    if item.id in items:
        raise BadRow("a duplicate id", f": {item.id!r} is also at {items[item.id].where}")
    first = next(iter(items.values()), item)
    if (item.answer is None) != (first.answer is None):
        kinds = ("has no `choices` but {} has", "has `choices` but {} has none")
        raise BadRow("mixed schemas", ": " + kinds[item.answer is not None].format(first.where))


def _are_strings(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


# --- tokens of items -------------------------------------------------------------------------------------------------


def _together(tokenizer: Any, prompts: list[str], after: list[str]) -> tuple[list[list[int]], Mask]:
    """Ids of each prompt with what follows it, and whether each token, end to end, reaches past its prompt."""
    trailing = trailing_specials(tokenizer)
    texts = [prompt + rest for prompt, rest in zip(prompts, after, strict=True)]
    made = tokenizer(texts, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    ids = [each[: len(each) - trailing] for each in made["input_ids"]]
    places = [each[: len(each) - trailing] for each in made["offset_mapping"]]
    ends = np.fromiter(chain.from_iterable(chain.from_iterable(places)), dtype=np.int64)[1::2]
    return ids, ends > np.repeat([len(prompt) for prompt in prompts], [len(each) for each in ids])


def _apart(tokenizer: Any, prompts: list[str], after: list[str]) -> tuple[list[list[int]], Mask]:
    """As `_together`, for a tokenizer without offsets."""
    trailing = trailing_specials(tokenizer)
    heads = [each[: len(each) - trailing] for each in tokenizer(prompts, verbose=False)["input_ids"]]
    tails = tokenizer(after, add_special_tokens=False, verbose=False)["input_ids"]
    sizes = [len(each) for pair in zip(heads, tails, strict=True) for each in pair]
    past = np.repeat(np.tile([False, True], len(heads)), sizes)
    return [head + tail for head, tail in zip(heads, tails, strict=True)], past


def trailing_specials(tokenizer: Any) -> int:
    """How many special tokens the tokenizer puts after a text."""
    mask = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return len(mask) if all(mask) else mask[::-1].index(0)


def _first_true(mask: Mask, within: Index, sizes: Index) -> Index:
    """The first place of each span at which `mask` [tokens] is true; its size where none is."""
    found = np.zeros(len(sizes), dtype=np.int64)
    some = sizes > 0
    places = np.where(mask, within, np.repeat(sizes, sizes))
    found[some] = np.minimum.reduceat(places, (sizes.cumsum() - sizes)[some])
    return found


def _divergence(tokens: Index, starts: Index, sizes: Index, first: Index) -> Index:
    """The first place at which each span's tokens differ from its item's first span's; its size if they do not."""
    within, size, other = counting(sizes), np.repeat(sizes[first], sizes), np.repeat(starts[first], sizes)
    mine = tokens[np.repeat(starts, sizes) + within]
    differ = (within >= size) | (mine != tokens[np.minimum(other + within, len(tokens) - 1)])
    return _first_true(differ, within, sizes)


# --- words -----------------------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def one_line(text: str) -> str:
    """The beginning of a text, to show."""
    line = " ".join(text.split())
    return line if len(line) <= _PREVIEW_CHARACTERS else line[: _PREVIEW_CHARACTERS - 1] + "…"


def ending(text: str) -> str:
    """The end of a text, to show: of a prompt, where the question is."""
    line = " ".join(text.split())
    return line if len(line) <= _PREVIEW_CHARACTERS else "…" + line[1 - _PREVIEW_CHARACTERS :]


def preview(item: Item) -> str:
    """A question and what is right, to show."""
    return f"{ending(item.prompt)} → {one_line(item.choices[item.answer or 0])}"


def _note(skipped: Mapping[str, int]) -> str:
    return ": skipped " + ", ".join(f"{count} × {why}" for why, count in skipped.items()) if skipped else ""


def _more(bad: Index) -> str:
    return f" (and {len(bad) - 1} more items cannot be read)" if len(bad) > 1 else ""
