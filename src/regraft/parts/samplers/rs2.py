"""Repeated random subsets: a fresh random part of the data every epoch. The baseline that any data selection must beat.

    S_t = pi[(t-1) r |S| : t r |S|]             without replacement: one permutation pi in chunks, then a new one
    S_t = r |S| of S at random                  with replacement: the subsets of two epochs know nothing of each other
    steps = epochs · r |S| / batch              as many epochs as on all the data, so 1/r times fewer steps

r = `fraction`. The learning rate decays fully over those fewer steps; schedules here do, being functions of the share
done. Without replacement the rows come as in shuffled passes over all the data: the method is to stop after r of the
steps, and its claim that no choice of rows does better.

Paper:   "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning" Okanovic et al. 2023. https://arxiv.org/abs/2305.18424
Claim:   at r of 5% and 10% and equal steps, more accurate than training on any one fixed subset of r |S| rows.
Needs:   the rows named by `source`.
Differs: where r does not divide 1, what is left of a permutation begins the next subset instead of being dropped: the
         uses of any two rows never differ by more than one, but such a subset may hold a row twice.
Tags:    data selection, any data
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.walk import Walk


@dataclass(frozen=True)
class rs2:
    fraction: float = 0.1
    replacement: bool = False
    source: str = "new"

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise RegraftError(f"rs2: fraction is {self.fraction}; it must lie in (0, 1]")

    def begin(self, ctx: Context) -> _RS2:
        return _RS2(self, ctx.rows(self.source), ctx.rng)


class _RS2(Stateful):
    state = ("walk", "left")

    def __init__(self, knobs: rs2, rows: Rows, dice: torch.Generator) -> None:
        self.rows, self.dice, self.replacement = rows, dice, knobs.replacement
        self.size = max(1, round(knobs.fraction * rows.count))
        self.walk, self.left = Walk(rows.count, dice), 0

    def draw(self, count: int) -> Rows:
        pieces = [torch.empty(0, dtype=torch.long)]
        while count > 0 and self.rows:
            if not self.left:
                self._epoch()
            some = min(count, self.left)
            pieces.append(self.walk.next(some))
            self.left, count = self.left - some, count - some
        return self.rows.take(torch.cat(pieces))

    def _epoch(self) -> None:
        self.left = self.size
        if self.replacement:
            self.walk = Walk(self.rows.count, self.dice)
