"""Asymmetric cross-entropy: new rows do not push the classes down that earlier updates learned.

    l_r = -log( e^{h_y} / sum_{c in C} e^{h_c} )        C: all classes but those known before that the new rows lack

On the new rows; the memory's rows have the whole cross-entropy. Without it the old classes' logits fall from the first
step on the new ones, and their features drift.

Paper:   "New Insights on Reducing Abrupt Representation Change in Online Continual Learning" Caccia et al. 2022.
         https://arxiv.org/abs/2104.05025
Claim:   when every row comes once and the memory is small, it is more accurate than plain replay and forgets less.
Needs:   the rows named by `source`, with classes in column `y`; classes of earlier updates in memory: without any it is
         the plain cross-entropy.
Differs: C is of the update's new rows, not of each batch's, so that micro-batches change nothing.
Tags:    class-incremental, online
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Context, View
from regraft.numerics.classes import old_and_new


@dataclass(frozen=True)
class asymmetric:
    source: str = "new"

    def begin(self, ctx: Context) -> _Asymmetric:
        ctx.rows(self.source)
        absent, _ = old_and_new(ctx, self.source)
        return _Asymmetric(absent.to(ctx.models["student"].device))


class _Asymmetric:
    def __init__(self, absent: Tensor) -> None:
        self.absent = absent

    def loss(self, view: View) -> Tensor:
        if not len(self.absent):
            return view.nll
        h = view.logits.index_fill(-1, self.absent, -torch.inf)
        return F.cross_entropy(h, view.targets, reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
