"""Every row is a class of its own: what is learned from classes is learned without labels.

    y_r <- r        r: the row's number in its source

Under two views of each row (`view_batch(instances(shuffled()), 2, ...)`) the supervised contrastive loss (`supcon`) is
that of SimCLR: a row's one other view is all that is alike to it.

Paper:   "A Simple Framework for Contrastive Learning of Visual Representations" Chen et al. 2020.
         https://arxiv.org/abs/2002.05709
Needs:   a sampler whose rows have their number in column `row`.
Tags:    representation
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regraft.core.parts import Context, Follows, Sampler, SamplerRun
from regraft.core.rows import Rows


@dataclass(frozen=True)
class instances:
    sampler: Sampler

    def begin(self, ctx: Context) -> _Instances:
        return _Instances(ctx.begin(self.sampler))


class _Instances:
    def __init__(self, inner: SamplerRun) -> None:
        self.inner = inner

    def follow(self, drawn: Mapping[str, Rows]) -> None:
        if isinstance(self.inner, Follows):
            self.inner.follow(drawn)

    def draw(self, count: int) -> Rows:
        rows = self.inner.draw(count)
        return rows.having(y=rows["row"]) if rows else rows
