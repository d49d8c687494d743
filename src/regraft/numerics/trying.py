"""Items that a language model answers several times, and how often each was right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import Written, write
from regraft.numerics.sampling import Sampling


class Asking(NamedTuple):
    """How items are asked: see `regraft.numerics.rollout.write`."""

    copies: int = 8
    tokens: int = 256
    how: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    at_once: int = 64


class Tried(NamedTuple):
    """What was answered: `rows`, as they were judged, `copies` of each item side by side, and as it was `written`."""

    rows: Rows
    written: Written
    copies: int

    @property
    def rewards(self) -> Tensor:
        """[items, copies]."""
        found: Tensor = self.rows["reward"].view(-1, self.copies)
        return found

    @property
    def right(self) -> Tensor:
        """How many answers to each item have a reward of 1 or more, int64 [items]."""
        return (self.rewards >= 1).sum(1)


def tried(
    model: Any,
    items: Rows,
    judge: Transform,
    asking: Asking,
    ctx: Context,
    *,
    dice: torch.Generator | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> Tried:
    """Answers to every item (`prompt_ids`), judged.

    Args:
        judge: gives the answers (column `written`) a column `reward`.
        dice: none: the context's.
        on_rows: hears how many answers are written, and of how many.
    """
    written = write(
        model,
        items["prompt_ids"],
        dice or ctx.rng,
        tokens=asking.tokens,
        copies=asking.copies,
        how=asking.how,
        stop=asking.stop,
        rows=asking.at_once,
        on_rows=on_rows,
    )
    answers = items.take(written.prompt).having(written=spoken(model, written))
    return Tried(judge(answers, ctx), written, asking.copies)


def in_blocks(answers: Tried) -> Rows:
    """The rows with their answers as blocks, as `rollouts` has them."""
    rows, written, _ = answers
    return rows.having(**answer_blocks(Padded.of(rows["prompt_ids"]), Padded(written.tokens, written.lengths)))


def spoken(model: Any, written: Written) -> list[str]:
    """What was written, as text, without special tokens."""
    ids = [written.ids(row) for row in range(len(written.prompt))]
    found: list[str] = model.tokenizer.batch_decode(ids, skip_special_tokens=True) if ids else []
    return found
