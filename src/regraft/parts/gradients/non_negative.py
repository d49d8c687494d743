"""A head without negative weights: after every step they are set to 0, so that the length of a row is its logits' size.

    w <- max(w, 0)

for the head's weights; over features that are not negative either (after a ReLU) a class then answers by how much its
own features are there, not by which of the others' are missing.

Paper:   "Maintaining Discrimination and Fairness in Class Incremental Learning" Zhao et al. 2020. https://arxiv.org/abs/1911.07053
Needs:   a head.
Tags:    class-incremental
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regraft.core.parts import Context, Grads
from regraft.numerics.features import head_name


@dataclass(frozen=True)
class non_negative:
    def begin(self, ctx: Context) -> _NonNegative:
        return _NonNegative(head_name(ctx.models["student"], "non_negative") + ".weight")


class _NonNegative:
    def __init__(self, name: str) -> None:
        self.name = name

    def update(self, grads: Grads) -> Grads:
        return grads

    def lands(self) -> bool:
        return True

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        return after.clamp(min=0) if name == self.name else after
