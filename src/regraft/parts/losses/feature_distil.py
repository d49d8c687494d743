"""Feature distillation: a linear map of the features gives those of a teacher.

    l_r = ||A f_r - phi_r||² / ||phi_r||²        phi_r: the teacher's features

A is learned beside the head where this part is among the plan's trainables too, and left; else A = 1 and the widths
must be the same. A teacher of n networks side by side has their features end to end: A is one linear head for each.

Paper:   "Learning useful representations for shifting tasks and distributions" Zhang and Bottou 2023.
         https://arxiv.org/abs/2212.07346
Needs:   a model with a head; one in the role `of`, with features.
Leaves:  `feature_distil`: A.
Differs: written from the catalogue's row; the authors' distillation code is not published.
Tags:    distillation, representation
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.beside_head import BesideHead
from regraft.numerics.features import headed


@dataclass(frozen=True)
class feature_distil:
    of: str = "before"

    def begin(self, ctx: Context) -> _FeatureDistil:
        return _FeatureDistil(self, ctx)


class _FeatureDistil(BesideHead):
    key = "feature_distil"

    def __init__(self, part: feature_distil, ctx: Context) -> None:
        super().__init__(ctx)
        self.of = part.of
        self.teacher = ctx.models[part.of]

    def make(self, width: int) -> nn.Module:
        return nn.Linear(width, headed(self.teacher, self.key).head.in_features, bias=False)

    def loss(self, view: View) -> Tensor:
        given, phi = self.beside(view.features), view.by(self.of).features
        if given.shape != phi.shape:
            raise RegraftError(
                f"feature_distil: {given.shape[-1]} features cannot be held to {phi.shape[-1]}",
                do="Put the part among the plan's trainables too",
            )
        size = phi.square().flatten(1).sum(1).clamp(min=torch.finfo(phi.dtype).tiny)
        return (given - phi).square().flatten(1).sum(1) / size

    def weight(self, view: View) -> Tensor | None:
        return None
