"""Memory aware synapses: weights that the outputs are sensitive to are held where they were; labels play no part.

    penalty = sum_i Omega_i (w_i - w*_i)²        Omega <- Omega + 1/R sum_r |d ||h_r||² / d w_i|

w*: the weights after the last update, h_r: the outputs of row r; where rows say of which task they are, those of its
task. In one head for all classes the outputs of those to come count too: without them what the next classes change most
is held least.

Paper:   "Memory Aware Synapses: Learning what (not) to forget" Aljundi et al. 2018. https://arxiv.org/abs/1711.09601
Claim:   when the inputs change and the classes do not, it forgets less than plain training, at equal updates.
Needs:   the rows named by `source`, of which Omega is estimated at the end; any rows will do, with labels or without.
Leaves:  `mas`: Omega and w*, by tensor. Without them, in a first update, it is absent.
Differs: the authors have a head for every task, and no outputs of classes to come.
Tags:    weight regularisation, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View, Weights
from regraft.core.rows import Rows
from regraft.numerics.choice import at_most
from regraft.numerics.consolidation import anchor, pull
from regraft.numerics.fisher import accumulated, importance
from regraft.numerics.mixture import values


@dataclass(frozen=True)
class mas:
    source: str = "new"
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise RegraftError(f"mas: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _MAS:
        return _MAS(self, ctx)


class _MAS:
    def __init__(self, part: mas, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        left = ctx.memory.get("mas", {"Omega": {}, "w": {}})
        device = ctx.models["student"].device
        self.Omega: dict[str, Tensor] = {name: value.to(device) for name, value in left["Omega"].items()}
        self.w: dict[str, Tensor] = {name: value.to(device) for name, value in left["w"].items()}

    def penalty(self, weights: Weights) -> Tensor:
        return pull(weights, self.Omega, self.w)

    def leave(self) -> Mapping[str, Any]:
        rows, student = self.ctx.rows(self.part.source), self.ctx.models["student"]
        own = self._own(rows)
        rows = at_most(rows, self.part.rows, self.ctx.rng)

        def sensitivity(view: View) -> Tensor:
            h = view.logits if own is None else view.logits[..., own]
            return h.flatten(1).square().sum(1)

        Omega = accumulated(self.Omega, 1.0, importance(student, rows, sensitivity, torch.abs))
        return {"mas": {"Omega": Omega, "w": anchor(student, Omega)}}

    def _own(self, rows: Rows) -> Tensor | None:
        """The classes of the rows' task, where they say of which they are; None: all outputs matter."""
        if "task" not in rows or "y" not in rows:
            return None
        here: Tensor = torch.as_tensor(values(rows, "y")).unique()
        return here.to(self.ctx.models["student"].device)
