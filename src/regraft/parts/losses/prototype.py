"""Prototypes: the head's row of a class is pulled towards the features of its rows, which are left where they are.

    l_r = 1 - cos(sg(f_r), p_y)        p_c: the head's weights of class c

No class is pushed away, so nothing is taught of classes that are not there. The model answers by the nearest prototype:
`unit_prototypes`.

Paper:   "Prototype-Sample Relation Distillation: Towards Replay-Free Continual Learning" Asadi et al. 2023.
         https://arxiv.org/abs/2303.14771
Needs:   a model with a head; another loss that teaches the features.
Tags:    prototypes, exemplar-free
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Context, View
from regraft.numerics.features import headed


@dataclass(frozen=True)
class prototype:
    def begin(self, ctx: Context) -> _Prototype:
        headed(ctx.models["student"], "prototype")
        return _Prototype()


class _Prototype:
    def loss(self, view: View) -> Tensor:
        p = headed(view.model, "prototype").head.weight
        return 1 - F.cosine_similarity(view.features.detach(), p[view.targets], dim=1)

    def weight(self, view: View) -> Tensor | None:
        return None
