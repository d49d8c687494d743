"""Dynamic EMA: a slow copy of the weights, each tensor at its own pace, takes their place at the end of an update.

    w* <- (1 - beta) w* + beta w        beta = factor · (1 + ||g||_1) / (||w - w*||_1 ||g - g'||_1)

after every step, with g the step's gradient and g' that of the step before; where this is not between 0 and 1, and in
the first step, beta is `fallback`. It weighs, to second order, what the new rows lose by lagging behind against what
drifting away costs. With `fixed` beta is always `fallback`. It costs three copies of what moves.

Paper:   "Large Continual Instruction Assistant" Qiao et al. 2024. https://arxiv.org/abs/2410.10868
Claim:   it is more accurate over all tasks than plain training, and than an average of fixed pace.
Differs: the slow copy begins with the update's own weights, in the authors' code with those after its first step; g is
         the gradient before it is clipped, there after. That norms are of whole tensors, the factor and what is done
         beyond 0 and 1 are the authors' code's. The choice among adapters by the similarity of instructions, another
         part of the paper, is not here.
Tags:    weight averaging, exemplar-free, task-free
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Stateful


@dataclass(frozen=True)
class dema:
    factor: float = 2.0
    fallback: float = 0.01
    fixed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise RegraftError(f"dema: factor is {self.factor}; it must be over 0")
        if not 0 <= self.fallback <= 1:
            raise RegraftError(f"dema: fallback is {self.fallback}; it must be in [0, 1]")

    def begin(self, ctx: Context) -> _Dema:
        return _Dema(self, ctx)


class _Dema(Stateful):
    state = ("slow", "g", "before")

    def __init__(self, part: dema, ctx: Context) -> None:
        self.part, self.progress = part, ctx.progress
        self.slow: dict[str, Tensor] = {}
        self.g: Grads = {}
        self.before: Grads = {}

    def update(self, grads: Grads) -> Grads:
        if not self.part.fixed:
            self.before, self.g = self.g, {name: g.clone() for name, g in grads.items()}
        return grads

    def lands(self) -> bool:
        return True

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        slow = self.slow[name].to(after) if name in self.slow else before
        self.slow[name] = torch.lerp(slow, after, self._beta(name, slow, after))
        progress = self.progress()
        return self.slow[name] if progress.step == progress.total - 1 else after

    def _beta(self, name: str, slow: Tensor, after: Tensor) -> Tensor:
        fallback = torch.full((), self.part.fallback, dtype=after.dtype, device=after.device)
        if name not in self.g or name not in self.before:
            return fallback
        g, before = self.g[name].to(after), self.before[name].to(after)
        apart = (after - slow).abs().sum() * (g - before).abs().sum()
        beta = self.part.factor * (1 + g.abs().sum()) / apart
        return torch.where((beta > 0) & (beta < 1), beta, fallback)
