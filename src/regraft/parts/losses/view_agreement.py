"""Views of one row agree: the later ones answer as the first one does.

    l_v = KL(p_1 || p_v)        for views v = 2 ... V of a row, without gradient to p_1

p_v: the softmax of the answer to view v. The first view is the weakly augmented one, so it teaches the strong ones.

Paper:   "Do Your Best and Get Enough Rest for Continual Learning" Kang et al. 2025. https://arxiv.org/abs/2503.18371
Needs:   views of a row side by side in one forward pass, in columns `view` and `group` (the sampler `view_batch`). A
         view whose first one is not in the same forward pass counts nothing.
Differs: the authors' code tells rows apart by their labels, so that two neighbours of one class share a first view, and
         divides by the number of classes: their alpha is C times ours.
Tags:    distillation
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Context, View


@dataclass(frozen=True)
class view_agreement:
    def begin(self, ctx: Context) -> _ViewAgreement:
        return _ViewAgreement()


class _ViewAgreement:
    def loss(self, view: View) -> Tensor:
        first, _ = _first(view)
        log_p = view.log_probs
        return F.kl_div(log_p, log_p.detach()[first], reduction="none", log_target=True).sum(-1)

    def weight(self, view: View) -> Tensor:
        return _first(view)[1]


def _first(view: View) -> tuple[Tensor, Tensor]:
    """Where each row's first view lies, int64 [rows], and whether it is another row that lies there, 0 or 1."""
    number, group = view.rows["view"], view.rows["group"]
    first = (torch.arange(len(number), device=number.device) - number).clamp(min=0)
    there = (number > 0) & (number[first] == 0) & (group[first] == group)
    return first, there.to(torch.get_default_dtype())
