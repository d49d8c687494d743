"""Shuffled passes over rows: every row once before any comes again.

    order = randperm(N), a new one for every pass

Needs:   the rows named by `source`.
Tags:    any data
"""

from __future__ import annotations

from dataclasses import dataclass

from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.walk import Walk


@dataclass(frozen=True)
class shuffled:
    source: str = "new"

    def begin(self, ctx: Context) -> _Shuffled:
        rows = ctx.rows(self.source)
        return _Shuffled(rows, Walk(rows.count, ctx.rng))


class _Shuffled(Stateful):
    state = ("walk",)

    def __init__(self, rows: Rows, walk: Walk) -> None:
        self.rows, self.walk = rows, walk

    def draw(self, count: int) -> Rows:
        return self.rows.take(self.walk.next(count))
