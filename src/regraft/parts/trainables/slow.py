"""A slow learner: all but the head moves by a fraction of the learning rate, or not at all.

    step(w) <- factor · step(w)        w: any tensor but the head's

With `factor=0` the network under the head is frozen, with what its normalisation layers remember: at the end their
running statistics are as they were.

Paper:   "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" Zhang et al. 2023.
         https://arxiv.org/abs/2303.05118
Needs:   a model with a head.
Tags:    pretrained, learning rate, exemplar-free
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.features import head_name
from regraft.numerics.tensors import buffers


@dataclass(frozen=True)
class slow:
    factor: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.factor < float("inf"):
            raise RegraftError(f"slow: the factor is {self.factor}; it must be 0 or more")

    def begin(self, ctx: Context) -> _Slow:
        return _Slow(self.factor, head_name(ctx.models["student"], "slow"))


class _Slow:
    def __init__(self, factor: float, head: str) -> None:
        self.factor, self.head = factor, f"{head}."
        self.kept: dict[str, Tensor] = {}

    def install(self, model: Model) -> None:
        if self.factor == 0:
            self.kept = buffers(model)

    def multiplier(self, slot: Slot) -> float:
        return 1.0 if slot.name.startswith(self.head) else self.factor

    def fold(self, model: Model) -> None:
        model.load(self.kept)
