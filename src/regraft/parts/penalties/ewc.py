"""Elastic weight consolidation, online: weights that mattered before are held where they were.

    penalty = 1/2 sum_i F_i (w_i - w*_i)²        F <- gamma · F + F_update

w*: the weights after the last update, F: the diagonal Fisher information of the rows learned so far, from the gradient
of each row by itself.

Paper:   "Overcoming catastrophic forgetting in neural networks" Kirkpatrick et al. 2017. https://arxiv.org/abs/1612.00796
Paper:   "Progress & Compress: A scalable framework for continual learning" Schwarz et al. 2018.
         https://arxiv.org/abs/1805.06370
Paper:   "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Claim:   when the inputs change and the classes do not, it forgets less than plain training, at equal updates.
Needs:   the rows named by `source`, of which F is estimated at the end.
Leaves:  `ewc`: F and w*, by tensor. Without them, in a first update, it is absent.
Differs: F is at the labels of the rows, not at answers drawn from the model: it vanishes for rows that are fitted by
         heart. Tasks are not normalised, and gamma is 1 (a sum over tasks); Progress & Compress does both otherwise.
Tags:    weight regularisation, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.choice import at_most
from regraft.numerics.consolidation import fisher_anchor, pull


@dataclass(frozen=True)
class ewc:
    gamma: float = 1.0
    source: str = "new"
    rows: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise RegraftError(f"ewc: gamma is {self.gamma}; it must be in [0, 1]")
        if self.rows is not None and self.rows < 1:
            raise RegraftError(f"ewc: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _EWC:
        return _EWC(self, ctx)


class _EWC:
    def __init__(self, part: ewc, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        left = ctx.memory.get("ewc", {"F": {}, "w": {}})
        device = ctx.models["student"].device
        self.F: dict[str, Tensor] = {name: value.to(device) for name, value in left["F"].items()}
        self.w: dict[str, Tensor] = {name: value.to(device) for name, value in left["w"].items()}

    def penalty(self, weights: Weights) -> Tensor:
        return pull(weights, self.F, self.w) / 2

    def leave(self) -> Mapping[str, Any]:
        student = self.ctx.models["student"]
        rows = at_most(self.ctx.rows(self.part.source), self.part.rows, self.ctx.rng)
        return {"ewc": fisher_anchor(self.F, self.part.gamma, student, rows)}
