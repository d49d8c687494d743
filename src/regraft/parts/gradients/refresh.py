"""Refresh learning: unlearn a little along what matters least, then learn; each step is made twice.

    u = gradient of the step                    d = u ||w|| / ||u||, tensor by tensor
    w <- w + delta · (d + sigma · n) / (1 + c F)       n standard normal
    g <- the step's gradient there

F: the diagonal Fisher information of what earlier updates learned, so that what they need is hardly unlearned.

Paper:   "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Claim:   does not hurt the learners it is put on (at most half a point), and raises the accuracy of at least two.
Needs:   the rows named by `source`, of which F is estimated at the end.
Leaves:  `refresh`: F by tensor, F <- tau · F + F_update.
Differs: the gradient of the whole step is ascended, memory and all; its length does not matter, since the difference
         is rescaled. F comes from each row's own gradient.
Tags:    task-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Stateful
from regraft.numerics.fisher import accumulated_fisher


@dataclass(frozen=True)
class refresh:
    delta: float = 1e-5
    sigma: float = 1e-3
    c: float = 1e-3
    tau: float = 1e-5
    source: str = "new"

    def __post_init__(self) -> None:
        if bad := next((k for k in ("delta", "sigma", "c", "tau") if not 0 <= getattr(self, k) < float("inf")), None):
            raise RegraftError(f"refresh: {bad} is {getattr(self, bad)}; it must be 0 or more")

    def begin(self, ctx: Context) -> _Refresh:
        return _Refresh(self, ctx)


class _Refresh(Stateful):
    state = ("dice",)

    def __init__(self, part: refresh, ctx: Context) -> None:
        self.part, self.ctx, self.dice = part, ctx, ctx.rng
        device = ctx.models["student"].device
        self.F = {name: value.to(device) for name, value in ctx.memory.get("refresh", {}).items()}

    def update(self, grads: Grads) -> Grads:
        part = self.part
        if not part.delta:
            return grads
        with torch.no_grad():
            for slot in self.ctx.models["student"].slots():
                if slot.name not in grads:
                    continue
                w, u = slot.tensor, grads[slot.name]
                d = u * (w.norm() / u.norm().clamp(min=torch.finfo(u.dtype).tiny))
                noise = torch.randn(w.shape, generator=self.dice, dtype=w.dtype).to(w.device)
                step = part.delta * (d + part.sigma * noise)
                w += step / (1 + part.c * self.F[slot.name]) if slot.name in self.F else step
        return self.ctx.again()

    def leave(self) -> Mapping[str, Any]:
        rows = self.ctx.rows(self.part.source)
        return {"refresh": accumulated_fisher(self.F, self.part.tau, self.ctx.models["student"], rows)}
