"""Many views at once, then a long rest: each row is drawn V times in a row, and then not for V passes.

    i_1 ... i_1  i_2 ... i_2  ...        V times each, cut into batches; view 1 under `weak`, the others under `strong`

i_1, i_2, ... are what `sampler` draws: over V passes every row is read as often as without it, but in one batch, and
the pass over the rows in between is V times as long. The V views tell each other apart: a loss may hold the later ones
to what the first one says (`view_agreement`), or contrast them with other rows (`supcon`). With V = 1 and one transform
it is plain augmentation.

Paper:   "Do Your Best and Get Enough Rest for Continual Learning" Kang et al. 2025. https://arxiv.org/abs/2503.18371
Needs:   inputs in column `x`, where views are transformed. Adds the columns `view` (0 is the first), `group` (one
         number for the views of one row) and `clean`, the inputs as they were: a row that is remembered gets new views.
Differs: the authors' code drops what does not fill 256 rows at the end of each epoch; here none is lost. Of views that
         a batch's end cuts apart the later ones come in the next batch.
Tags:    augmentation, replay
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Follows, Sampler, SamplerRun, Stateful, Transform
from regraft.core.rows import Column, Rows


@dataclass(frozen=True)
class view_batch:
    """`weak` makes the first view of each row, `strong` the others; None: as the first."""

    sampler: Sampler
    V: int = 4
    weak: Transform | None = None
    strong: Transform | None = None

    def __post_init__(self) -> None:
        if self.V < 1:
            raise RegraftError(f"view_batch: V is {self.V}; it must be at least 1")

    def begin(self, ctx: Context) -> _ViewBatch:
        return _ViewBatch(self, ctx, ctx.begin(self.sampler))


class _ViewBatch(Stateful):
    state = ("left", "number", "dice")

    def __init__(self, part: view_batch, ctx: Context, inner: SamplerRun) -> None:
        self.part, self.ctx, self.inner, self.dice = part, ctx, inner, ctx.rng
        self.left: Mapping[str, Column] = {}
        # The first group's number is drawn, so that no two feeds give one number.
        self.number = int(torch.randint(2**62, (1,), generator=ctx.rng))

    def follow(self, drawn: Mapping[str, Rows]) -> None:
        if isinstance(self.inner, Follows):
            self.inner.follow(drawn)

    def draw(self, count: int) -> Rows:
        V, weak = self.part.V, self.part.weak
        strong = self.part.strong or weak
        if V == 1 and weak is None:
            return self.inner.draw(count)
        left = Rows(self.left)
        rows = Rows.join([left, self._groups(self.inner.draw(-(-max(count - left.count, 0) // V)))])
        rows, left = rows.take(slice(0, count)), rows.take(slice(count, None))
        self.left = dict(left)
        if not rows or weak is strong is None:
            return rows
        first = rows["view"] == 0
        x = rows["clean"].clone()
        for at, transform in ((first, weak), (~first, strong)):
            if transform is not None and bool(at.any()):
                x[at] = transform(rows.where(at).having(x=x[at]), self.ctx)["x"]
        return rows.having(x=x)

    def _groups(self, rows: Rows) -> Rows:
        """V copies of each row, side by side."""
        if not rows:
            return rows
        V, groups = self.part.V, self.number + torch.arange(rows.count)
        self.number += rows.count
        if self.part.weak is not None or self.part.strong is not None:
            rows = rows.having(clean=rows["clean"] if "clean" in rows else rows["x"])
        return rows.repeat(V).having(view=torch.arange(V).repeat(rows.count), group=groups.repeat_interleave(V))
