"""A sigmoid for every class: what rows are labelled, and for classes learned before, what the model answered.

    l_r = - sum_c q_c log g_c + (1 - q_c) log(1 - g_c)        g_c = sigmoid(h_c)
    q_c = sigmoid(z_c) for classes known before that the new rows lack, [c = y_r] for all others

h: the model's logits, z: those of the model before the update. A row of an old class, too, is taught by z alone.

Paper:   "iCaRL: Incremental Classifier and Representation Learning" Rebuffi et al. 2017. https://arxiv.org/abs/1611.07725
Needs:   rows named `source`, with classes in column `y`; classes of earlier updates in memory.
Differs: the authors' code takes the mean over classes; the sum is the paper's.
Tags:    distillation, class-incremental
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Context, View
from regraft.numerics.classes import old_and_new


@dataclass(frozen=True)
class one_vs_rest:
    source: str = "new"

    def begin(self, ctx: Context) -> _OneVsRest:
        old, _ = old_and_new(ctx, self.source)
        if len(old):
            ctx.models["before"]  # it is copied when it is asked for first
        return _OneVsRest(old.to(ctx.models["student"].device))


class _OneVsRest:
    def __init__(self, old: Tensor) -> None:
        self.old = old

    def loss(self, view: View) -> Tensor:
        h = view.logits
        q = F.one_hot(view.targets, h.shape[-1]).to(h.dtype)
        if len(self.old):
            q[:, self.old] = view.by("before").logits[:, self.old].sigmoid().to(h.dtype)
        return F.binary_cross_entropy_with_logits(h, q, reduction="none").sum(-1)

    def weight(self, view: View) -> Tensor | None:
        return None
