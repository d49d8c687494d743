"""KTO: answers that are good or bad by themselves, without pairs, against what the model says on the whole.

    r_r = sum_t s_rt² (log pi(y_t) - log pi_ref(y_t))       s: 1 in a good answer, -1 in a bad one, else 0
    z   = max(0, mean over the step of sum_t k_rt (log pi(y'_t) - log pi_ref(y'_t)))     k: 1 in a mismatched answer y'
    l_r = lambda_r (1 - sigma(sign_r beta (r_r - z)))

z estimates KL(pi || pi_ref); no gradient goes through it. lambda: `good` or `bad`. A row is a block of an answer and,
after the same prompt, the answer of another row.

Paper:   "KTO: Model Alignment as Prospect Theoretic Optimization" Ethayarajh et al. 2024.
         https://arxiv.org/abs/2402.01306
Needs:   columns `side`, s, and `mismatched`, k, for every place; a model in the role `reference`.
Tags:    preference optimisation, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import column, said


@dataclass(frozen=True)
class kto:
    beta: float = 0.1
    good: float = 1.0
    bad: float = 1.0
    reference: str | Reference = "before"

    def __post_init__(self) -> None:
        if not self.beta > 0 or min(self.good, self.bad) < 0:
            raise RegraftError(f"{self}: beta must be over 0, good and bad 0 or more")

    def begin(self, ctx: Context) -> _KTO:
        return _KTO(self, other_model(self.reference, ctx))


class _KTO:
    def __init__(self, part: kto, reference: Callable[[View], View]) -> None:
        self.part, self.reference = part, reference
        self.z = torch.zeros(())

    def statistic(self, view: View) -> Tensor:
        lead = self._leads(view)
        return (lead * column(view, "mismatched", lead)).sum(1)

    def pooled(self, mean: Tensor) -> None:
        self.z = mean.clamp(min=0.0)

    def loss(self, view: View) -> Tensor:
        lead = self._leads(view)
        s = column(view, "side", lead)
        r, sign = (lead * s.abs()).sum(1), s.sum(1).sign()
        weight = torch.where(sign > 0, self.part.good, self.part.bad)
        return weight * (1 - torch.sigmoid(sign * self.part.beta * (r - self.z.to(r))))

    def weight(self, view: View) -> Tensor | None:
        return None

    def _leads(self, view: View) -> Tensor:
        """How far each counted target leads the reference, in nats, [rows, places]."""
        pi, c = said(view)
        return (pi - said(self.reference(view)).log_probs) * c
