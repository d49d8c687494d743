"""The value loss: how far a value head is from the returns.

    l_r = (1 / n_r) sum_t c_rt 1/2 max((V_t - R_t)², (V'_t - R_t)²)        V' = clip(V, V_old - eps, V_old + eps)

V_old: what the head said when the rows were written. clip=None: l_r = (1 / n_r) sum_t c_rt 1/2 (V_t - R_t)². n_r is as
in `policy_gradient`: per="row": sum_t c_rt, rows count alike; per="token": the same, and rows count by their tokens; a
number: that number.

Paper:   "Proximal Policy Optimization Algorithms" Schulman et al. 2017. https://arxiv.org/abs/1707.06347
Paper:   "ReFT: Reasoning with Reinforced Fine-Tuning" Luong et al. 2024. https://arxiv.org/abs/2401.08967
Needs:   `value_head` among the trainables of the plan; a column `returns`, and with a clip `values`, of the places: as
         `gae` gives them.
Differs: the paper's value loss has no clip; its authors' code has, and ReFT's.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.token_loss import Per, check_per, column, summed
from regraft.numerics.values import values


@dataclass(frozen=True)
class value:
    clip: float | None = 0.2
    per: Per = "row"

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 <= self.clip < float("inf"):
            raise RegraftError(f"value: clip is {self.clip}; it must be 0 or more")
        check_per(self.per, "value")

    def begin(self, ctx: Context) -> _Value:
        return _Value(self)


class _Value:
    def __init__(self, part: value) -> None:
        self.part = part

    def loss(self, view: View) -> Tensor:
        V, clip = values(view, "value"), self.part.clip
        R = column(view, "returns", V)
        each = (V - R).square()
        if clip is not None:
            old = column(view, "values", V)
            each = torch.maximum(each, (old + (V - old).clamp(-clip, clip) - R).square())
        counts = view.out.counts
        c = torch.ones_like(V) if counts is None else counts.to(V).flatten(1)
        return 0.5 * summed(each, c, self.part.per)

    def weight(self, view: View) -> Tensor | None:
        return view.size if self.part.per == "token" else None
