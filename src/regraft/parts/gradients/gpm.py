"""Gradient projection memory: steps off the subspaces that layers read earlier tasks in.

    W <- W + d - d M Mᵀ        d: the optimizer's step, M [in, k]: the layer's basis
    M <- M and the fewest directions more with which it keeps `energy` of what the layer reads of the task just learned

Inputs in span(M) are answered as before, whatever the task learns. What is no weight of a linear or convolutional layer
(biases, norms) stays as the first update left it; where rows say of which task they are, the head is free. With an
energy of 0 no layer has a direction to keep, and all is free.

Paper:   "Gradient Projection Memory for Continual Learning" Saha et al. 2021. https://arxiv.org/abs/2103.09762
Claim:   when the inputs change and the classes do not, it forgets at most half of what plain training forgets, and is
         more accurate, at equal updates.
Needs:   the rows named by `source`, of which some are read at the end. No running statistics (batch normalisation).
Leaves:  `gpm`: M by weight; in a first update nothing is projected. No rows.
Differs: the step is projected, not the gradient: the same under SGD, and it holds under any optimizer and weight decay.
         The authors' networks have no biases. A convolution's groups share one basis.
Tags:    gradient projection, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads
from regraft.numerics.choice import some
from regraft.numerics.subspace import basis, inputs, of_one_task, steady, within


@dataclass(frozen=True)
class gpm:
    energy: float = 0.97
    rows: int = 300
    source: str = "new"

    def __post_init__(self) -> None:
        if not 0 <= self.energy <= 1:
            raise RegraftError(f"gpm: the energy is {self.energy}; it must be in [0, 1]")
        if self.rows < 1:
            raise RegraftError(f"gpm: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _GPM:
        steady(ctx.models["student"], "gpm")
        return _GPM(self, ctx)


class _GPM:
    def __init__(self, part: gpm, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.known: Mapping[str, Tensor] = ctx.memory.get("gpm", {})
        slots = {slot.name: slot.tensor for slot in ctx.models["student"].slots()}
        self.M = {name: M.to(slots[name]) for name, M in self.known.items() if name in slots}
        self.free = of_one_task(ctx, part.source)

    def update(self, grads: Grads) -> Grads:
        return grads

    def lands(self) -> bool:
        return any(M.shape[1] for M in self.M.values())

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        if name in self.free:
            return after
        return after - within(after - before, self.M[name]) if name in self.M else before

    def leave(self) -> Mapping[str, Any]:
        rows = self.ctx.rows(self.part.source)
        read = inputs(self.ctx.models["student"], some(rows, self.part.rows, self.ctx.rng))
        return {"gpm": {name: basis(R, self.part.energy, self.known.get(name)).cpu() for name, R in read.items()}}
