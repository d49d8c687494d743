"""Rotation pretext: from the features of an image that was turned, by how many quarters it was.

    l_r = -log softmax(A f_r + a)_k        k in {0, 1, 2, 3}

f: features, A, a: a linear layer beside the head, learned with the network where this part is among the plan's
trainables too, and no part of any version.

Paper:   "Unsupervised Representation Learning by Predicting Image Rotations" Gidaris et al. 2018.
         https://arxiv.org/abs/1803.07728
Paper:   "A Bag of Tricks for Few-Shot Class-Incremental Learning" Roy et al. 2024. https://arxiv.org/abs/2403.14392
Needs:   a model with at least four features under its head; column `quarter`, as `pseudo_classes` gives it.
Leaves:  `rotation`: A and a.
Tags:    representation, image
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.parts import Context, View
from regraft.numerics.beside_head import BesideHead


@dataclass(frozen=True)
class rotation:
    def begin(self, ctx: Context) -> _Rotation:
        return _Rotation(ctx)


class _Rotation(BesideHead):
    key = "rotation"

    def make(self, width: int) -> nn.Module:
        return nn.Linear(width, 4)

    def loss(self, view: View) -> Tensor:
        return F.cross_entropy(self.beside(view.features), view.rows["quarter"], reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
