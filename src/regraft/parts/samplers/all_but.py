"""Shuffled passes over the rows that a memory did not take: rows are held out of training.

    order = randperm(N - held), a new one for every pass

Needs:   `held`, a sampler that takes rows before an update, such as `exemplars(adds="before")`; the rows named by
         `source`, with classes in column `y`. Of a class that it took whole, all rows are read.
Tags:    any data
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.parts import Context, Sampler, Stateful
from regraft.core.rows import Rows
from regraft.numerics.classes import taken_by
from regraft.numerics.mixture import values
from regraft.numerics.walk import Walk


@dataclass(frozen=True)
class all_but:
    held: Sampler
    source: str = "new"

    def begin(self, ctx: Context) -> _AllBut:
        taken, rows = taken_by(ctx, self.held, "all_but"), ctx.rows(self.source)
        classes, which = torch.as_tensor(values(rows, "y")).cpu().unique(return_inverse=True)
        left = torch.ones(rows.count, dtype=torch.bool)
        left[taken] = False
        left |= (which[left].bincount(minlength=len(classes)) == 0)[which]
        return _AllBut(rows, left.nonzero()[:, 0], ctx.rng)


class _AllBut(Stateful):
    state = ("walk",)

    def __init__(self, rows: Rows, places: Tensor, dice: torch.Generator) -> None:
        self.rows, self.places, self.walk = rows, places, Walk(len(places), dice)

    def draw(self, count: int) -> Rows:
        return self.rows.take(self.places[self.walk.next(count)])
