"""What a network was trained on is measured, so that EWC holds its weights from the first update on. None changes.

    F_i = 1/R sum_r (d log p(y_r | x_r) / d w_i)²        w* = w

Where EWC has been left something already, nothing is measured.

Paper:   "Language Models Meet World Models: Embodied Experiences Enhance Language Models" Xiang et al. 2023.
         https://arxiv.org/abs/2305.10626
Needs:   the rows named by `source`, of which `rows` are drawn at random; None: all.
Leaves:  `ewc`: F and w*, by tensor, as the penalty `ewc` leaves them.
Tags:    weight regularisation, exemplar-free, pretrained
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.choice import at_most
from regraft.numerics.consolidation import fisher_anchor


@dataclass(frozen=True)
class ewc_anchor:
    source: str = "new"
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise RegraftError(f"ewc_anchor: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _EWCAnchor:
        return _EWCAnchor(self, ctx)


class _EWCAnchor:
    def __init__(self, part: ewc_anchor, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.left: Mapping[str, Any] = {}

    def edit(self, weights: Weights) -> Weights:
        if "ewc" not in self.ctx.memory:
            rows = at_most(self.ctx.rows(self.part.source), self.part.rows, self.ctx.rng)
            with torch.enable_grad():
                self.left = {"ewc": fisher_anchor({}, 1.0, self.ctx.models["student"], rows)}
        return {}

    def leave(self) -> Mapping[str, Any]:
        return self.left
