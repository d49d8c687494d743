"""Rollouts: what a causal language model writes after prompts, many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Model
from regraft.numerics.decoding import decoder
from regraft.numerics.evaluating import evaluating
from regraft.numerics.padded import Padded
from regraft.numerics.sampling import Sampling

SPENDING: ContextVar[Callable[[int], None] | None] = ContextVar("SPENDING", default=None)
"""Who is told how many tokens were written: a harness that compares what methods cost."""


@contextmanager
def uncounted() -> Iterator[None]:
    """What is written in the block, to see how a model does, is told to nobody."""
    token = SPENDING.set(None)
    try:
        yield
    finally:
        SPENDING.reset(token)


_DROP = 0.75
"""Rows that ended are left out as soon as no more than this part of the rows goes on."""


class LanguageModel(Model, Protocol):
    """A causal language model of transformers."""

    module: Any
    tokenizer: Any

    @property
    def context(self) -> int | None:
        """The longest context that it allows, in tokens."""
        ...


class Written(NamedTuple):
    """What was written, a row for every copy of every prompt, on the CPU.

    Attributes:
        prompt: which prompt each row begins with, int64 [rows]; ascending, where `of` was not given.
        tokens: int64 [rows, longest], 0 after the row's end; the token that ended it is among them.
        lengths: int64 [rows].
        log_probs: of each token when it was drawn, as `Sampling.draw` says, float32 [rows, longest]; 0 after the end.
        ended: whether the row ended by itself, by an end-of-text token or a stop, bool [rows].
    """

    prompt: Tensor
    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor
    ended: Tensor

    def ids(self, row: int) -> list[int]:
        found: list[int] = self.tokens[row, : self.lengths[row]].tolist()
        return found


@torch.no_grad()
def write(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    dice: torch.Generator,
    *,
    tokens: int,
    copies: int = 1,
    of: Tensor | None = None,
    how: Sampling | None = None,
    stop: Sequence[str] = (),
    rows: int = 64,
    on_rows: Callable[[int, int], None] | None = None,
) -> Written:
    """Continues every prompt so many times.

    The dice of a row do not depend on the others: as far as arithmetic allows, neither does what it says.

    Args:
        prompts: token ids of each, one at least.
        dice: what is drawn depends on its state, and on nothing else that is random.
        tokens: of a row at most; none goes over the model's context.
        of: which prompt each row begins with, int64 [rows], in place of `copies`. A prompt is read once.
        how: none: from the model's own distribution.
        stop: texts that end a row once it contains one.
        rows: how many are written at once.
        on_rows: told now and then how many rows are done, and of how many.

    Raises RegraftError for a prompt that is empty, or that leaves no room for a token.
    """
    if tokens < 1 or copies < 1 or rows < 1:
        raise RegraftError(f"tokens {tokens}, copies {copies}, rows {rows}: each must be at least 1")
    context = model.context or 1 << 62
    for number, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            full = f"has {len(prompt)} tokens, and the model's context of {context} leaves room for none"
            raise RegraftError(f"prompt {number} {full if prompt else 'is empty'}", do="Leave it out, or shorten it")
    of = torch.arange(len(prompts)).repeat_interleave(copies) if of is None else of
    count = len(of)
    found = Written(
        of,
        torch.zeros(count, tokens, dtype=torch.long),
        torch.zeros(count, dtype=torch.long),
        torch.zeros(count, tokens),
        torch.zeros(count, dtype=torch.bool),
    )
    uniform = 1 - torch.rand(count, tokens, generator=dice)
    ends = _Ends(model, stop)
    by_length = torch.tensor([len(p) for p in prompts])[of].argsort(stable=True)
    done = 0
    with evaluating(model):
        for chosen in by_length.split(rows) if count else ():
            _write(model, prompts, chosen, uniform[chosen], found, how or Sampling(), ends, context)
            done += len(chosen)
            if on_rows is not None:
                on_rows(done, count)
    if (told := SPENDING.get()) is not None:
        told(int(found.lengths.sum()))
    longest = int(found.lengths.max()) if count else 0
    return found._replace(tokens=found.tokens[:, :longest], log_probs=found.log_probs[:, :longest])


def write_after(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    begun: Sequence[Sequence[int]],
    dice: torch.Generator,
    **how: Any,
) -> Written:
    """Continues each prompt once, after the tokens that its answer has begun with; `how`: see `write`.

    Rows that begin alike are read once.
    """
    number: dict[tuple[int, ...], int] = {}
    whole = ((*prompt, *own) for prompt, own in zip(prompts, begun, strict=True))
    of = torch.tensor([number.setdefault(ids, len(number)) for ids in whole], dtype=torch.long)
    return write(model, list(number), dice, of=of, **how)


def texts(
    model: LanguageModel, prompts: Sequence[str], *, tokens: int = 64, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """Continues each text by at most `tokens` tokens; temperature 0 is greedy."""
    ids = model.tokenizer(list(prompts))["input_ids"] if prompts else []
    written = write(model, ids, torch.Generator().manual_seed(seed), tokens=tokens, how=Sampling(temperature))
    rows = [written.ids(row) for row in range(len(prompts))]
    found: list[str] = model.tokenizer.batch_decode(rows, skip_special_tokens=True) if rows else []
    return found


def _write(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    chosen: Tensor,
    uniform: Tensor,
    found: Written,
    how: Sampling,
    ends: _Ends,
    context: int,
) -> None:
    """Writes the chosen rows of `found`."""
    device = model.device
    used, of = found.prompt[chosen].unique(return_inverse=True)
    begun, of = Padded.of([prompts[i] for i in used.tolist()], device), of.to(device)
    most = uniform.shape[1]
    limits = (context - begun.lengths)[of].clamp(max=most)
    dice = uniform.to(device).T.contiguous()
    sheet = _Sheet(len(chosen), most, device)
    lengths, ended = limits.clone(), torch.zeros(len(chosen), dtype=torch.bool, device=device)
    reading = torch.arange(len(chosen), device=device)  # the rows that the decoder reads
    going = torch.ones_like(ended)  # of these, which did not end
    first, last = int(limits.min()), int(limits.max())
    rows = decoder(model.module, begun, of, min(context, begun.ids.shape[1] + most))
    for place in range(last):
        drawn, log_probs = how.draw(rows.logits, dice[place] if len(reading) == len(chosen) else dice[place, reading])
        sheet.add(reading, drawn, log_probs)
        over = ends.found(drawn, sheet) & going
        full = place + 1 >= first
        if full or bool(over.any()):
            lengths[reading[over]], ended[reading[over]] = place + 1, True
            going &= ~over & (limits[reading] > place + 1)
            left = int(going.sum())
            if not left:
                break
            if left <= _DROP * len(reading):
                kept = going.nonzero()[:, 0]
                rows.keep(kept)
                drawn, reading, going = drawn[kept], reading[kept], going[kept]
        rows.step(drawn)
    tokens, log_probs = sheet.whole()
    after = torch.arange(most, device=device) >= lengths[:, None]
    found.tokens[chosen] = tokens.masked_fill(after, 0).cpu()
    found.log_probs[chosen] = log_probs.masked_fill(after, 0.0).cpu()
    found.lengths[chosen], found.ended[chosen] = lengths.cpu(), ended.cpu()


class _Sheet:
    """What was drawn for rows, place by place; put together when other rows are read."""

    def __init__(self, rows: int, most: int, device: torch.device) -> None:
        self.tokens = torch.zeros(rows, most, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(rows, most, device=device)
        self.upto = 0
        self.reading = torch.empty(0)
        self.new: list[tuple[Tensor, Tensor]] = []

    def add(self, reading: Tensor, tokens: Tensor, log_probs: Tensor) -> None:
        if reading is not self.reading:
            self.whole()
            self.reading = reading
        self.new.append((tokens, log_probs))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities, [rows, places]."""
        if self.new:
            upto = self.upto + len(self.new)
            for table, columns in zip((self.tokens, self.log_probs), zip(*self.new, strict=True), strict=True):
                table[self.reading, self.upto : upto] = torch.stack(columns, 1)
            self.upto, self.new = upto, []
        return self.tokens, self.log_probs


class _Ends:
    """What ends a row: end-of-text tokens, and texts."""

    def __init__(self, model: LanguageModel, stop: Sequence[str]) -> None:
        generation = getattr(model.module, "generation_config", None)
        said = [getattr(each, "eos_token_id", None) for each in (model.tokenizer, generation, model.module.config)]
        every = [i for each in said if each is not None for i in (each if isinstance(each, list) else [each])]
        self.tokens = torch.tensor(sorted(set(every)), dtype=torch.long, device=model.device)
        self.stop, self.tokenizer = tuple(stop), model.tokenizer
        if "" in self.stop:
            raise RegraftError("a stop is empty", do="Leave it out, or give the text that ends a row")
        if self.stop:
            if self.tokenizer is None:
                raise RegraftError("the model has no tokenizer, so no text can end a row", do="Leave `stop` out")
            size = model.module.get_input_embeddings().weight.shape[0]
            self.last = _with_last(self.tokenizer, self.stop, size).to(model.device)

    def found(self, drawn: Tensor, sheet: _Sheet) -> Tensor:
        """Which of the rows that are read end with the token that was drawn last, bool [rows]."""
        over = (drawn[:, None] == self.tokens).any(1)
        if self.stop and bool((suspect := self.last[drawn] & ~over).any()):
            tokens, _ = sheet.whole()
            for row in suspect.nonzero()[:, 0].tolist():
                text = self.tokenizer.decode(tokens[sheet.reading[row], : sheet.upto].tolist())
                over[row] = any(each in text for each in self.stop)
        return over


@lru_cache(maxsize=4)
def _with_last(tokenizer: Any, stop: tuple[str, ...], size: int) -> Tensor:
    """Which tokens hold the last character of a stop, so that a row may end with them, bool [tokens]."""
    pieces = tokenizer.batch_decode([[i] for i in range(size)])
    return torch.tensor([any(each[-1] in piece for each in stop) for piece in pieces])
