"""Synaptic intelligence: weights that lowered the loss on their way are held where they ended.

    omega_i = - sum_t g_i Delta_i w                                along all steps t of an update
    Omega_i <- max(0, Omega_i + omega_i / ((w_i - w*_i)² + xi))    at its end; then w* <- w
    penalty = sum_i Omega_i (w_i - w*_i)²

g: the gradient of the losses, without that of this penalty. What matters is known from the steps themselves: no row is
read again. One object fills two places of a plan, the penalty and a gradient transform that follows the steps:

    Plan(penalties=(Weighted(si(), c),), gradients=(si(),))

Paper:   "Continual Learning Through Synaptic Intelligence" Zenke et al. 2017. https://arxiv.org/abs/1703.04200
Claim:   when the inputs change and the classes do not, it forgets less than plain training, at equal updates.
Needs:   to be among the penalties and among the gradients.
Leaves:  `si`: Omega and w*, by tensor. Without them, in a first update, nothing is held.
Differs: of other penalties in the same plan the gradient counts as one of the losses'.
Tags:    weight regularisation, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Stateful, Weights
from regraft.numerics.consolidation import pull


@dataclass(frozen=True)
class si:
    xi: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.xi < float("inf"):
            raise RegraftError(f"si: xi is {self.xi}; it must be over 0")

    def begin(self, ctx: Context) -> _SI:
        return _SI(self, ctx)


class _SI(Stateful):
    state = ("omega", "start")

    def __init__(self, part: si, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        student = ctx.models["student"]
        left = ctx.memory.get("si", {"Omega": {}, "w": {}})
        self.Omega: dict[str, Tensor] = {name: value.to(student.device) for name, value in left["Omega"].items()}
        self.w: dict[str, Tensor] = {name: value.to(student.device) for name, value in left["w"].items()}
        self.start = {name: tensor.detach().clone() for name, tensor in student.weights().items()}
        self.omega: dict[str, Tensor] = {}
        self.g: Grads = {}
        self.asked: Tensor | None = None
        self.strength: Tensor | None = None  # of the penalty in this step; None: it was not there

    def penalty(self, weights: Weights) -> Tensor:
        if self.ctx.progress().step and not self.omega:
            raise RegraftError("si does not see the steps", do="Put it among the plan's gradients, too")
        value = pull(weights, self.Omega, self.w)
        if value.requires_grad:
            value.register_hook(self._charged)
        return value

    def _charged(self, strength: Tensor) -> None:
        """How much the plan makes of the penalty: the gradient of what it adds to the objective."""
        self.asked = strength

    def update(self, grads: Grads) -> Grads:
        self.g = {name: g.clone() for name, g in grads.items()}  # clipping writes into them
        self.strength, self.asked = self.asked, None
        return grads

    def lands(self) -> bool:
        return True

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        if name not in self.start or name not in self.g:
            return after
        g = self.g[name]
        if self.strength is not None and name in self.Omega:
            g = g - 2 * self.strength * self.Omega[name] * (before - self.w[name])
        path = g * (before - after)
        self.omega[name] = self.omega[name] + path if name in self.omega else path
        return after

    def leave(self) -> Mapping[str, Any]:
        w = {name: tensor.detach().clone() for name, tensor in self.ctx.models["student"].weights().items()}
        Omega = dict(self.Omega)
        for name, omega in self.omega.items():
            found = omega / ((w[name] - self.start[name]).square() + self.part.xi)
            Omega[name] = (Omega[name] + found if name in Omega else found).clamp(min=0)
        kept = {"Omega": Omega, "w": {name: w[name] for name in Omega if name in w}}
        return {"si": {key: {name: tensor.cpu() for name, tensor in each.items()} for key, each in kept.items()}}
