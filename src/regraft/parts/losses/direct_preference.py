"""Preference losses: an answer that is preferred should lead the other by more than it does for the reference.

    m_r = sum_t s_rt (log pi(y_t) - log pi_ref(y_t))        s: 1 in the answer preferred, -1 in the other, else 0

    by="dpo"     l_r = -(1 - e) log sigma(beta m_r - gamma) - e log sigma(gamma - beta m_r)     e: pairs that are wrong
    by="ipo"     l_r = (m_r - 1 / (2 beta))²
    by="hinge"   l_r = max(0, 1 - beta m_r)

With `nll`, l_r has nll · (-log pi(y_w) / |y_w|) beside it, y_w the preferred answer.

per="token": each answer's sum is divided by its length (Tülu 3's DPO; IPO as its authors run it; with `reference=None`
and gamma: SimPO). A row is a pair, both answers in one block, each after the prompt.

Paper: "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" Rafailov et al. 2023.
       https://arxiv.org/abs/2305.18290
Paper: "A General Theoretical Paradigm to Understand Learning from Human Preferences" Azar et al. 2024.
       https://arxiv.org/abs/2310.12036
Paper: "SLiC-HF: Sequence Likelihood Calibration with Human Feedback" Zhao et al. 2023. https://arxiv.org/abs/2305.10425
Paper: "SimPO: Simple Preference Optimization with a Reference-Free Reward" Meng et al. 2024.
       https://arxiv.org/abs/2405.14734
Paper: "TÜLU 3: Pushing Frontiers in Open Language Model Post-Training" Lambert et al. 2024.
       https://arxiv.org/abs/2411.15124
Paper: "Iterative Reasoning Preference Optimization" Pang et al. 2024. https://arxiv.org/abs/2404.19733
Needs: a column `side`, s for every place; a model in the role `reference`, unless that is None.
Tags:  preference optimisation, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import column, said


@dataclass(frozen=True)
class direct_preference:
    beta: float = 0.1
    by: Literal["dpo", "ipo", "hinge"] = "dpo"
    per: Literal["row", "token"] = "row"
    gamma: float = 0.0
    wrong: float = 0.0
    reference: str | Reference | None = "before"
    nll: float = 0.0

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise RegraftError(f"direct_preference: beta is {self.beta}; it must be over 0")
        if self.by not in ("dpo", "ipo", "hinge"):
            raise RegraftError(f"direct_preference: by is {self.by!r}; it must be 'dpo', 'ipo' or 'hinge'")
        if self.nll < 0:
            raise RegraftError(f"direct_preference: nll is {self.nll}; it must be 0 or more")
        if self.per not in ("row", "token"):
            raise RegraftError(f"direct_preference: per is {self.per!r}; it must be 'row' or 'token'")
        if not 0 <= self.wrong < 0.5:
            raise RegraftError(f"direct_preference: wrong is {self.wrong}; it must be from 0 to under 0.5")
        if self.by != "dpo" and (self.gamma or self.wrong):
            raise RegraftError("direct_preference: gamma and wrong are of by='dpo'")

    def begin(self, ctx: Context) -> _DirectPreference:
        return _DirectPreference(self, None if self.reference is None else other_model(self.reference, ctx))


class _DirectPreference:
    def __init__(self, part: direct_preference, reference: Callable[[View], View] | None) -> None:
        self.part, self.reference = part, reference

    def loss(self, view: View) -> Tensor:
        apart = self._apart(view)
        return apart + self.part.nll * self._nll(view) if self.part.nll else apart

    def _nll(self, view: View) -> Tensor:
        """Of the preferred answer, per token, [rows]."""
        pi, c = said(view)
        own = c * (column(view, "side", pi) > 0)
        return -(own * pi).sum(1) / own.sum(1).clamp(min=1.0)

    def _apart(self, view: View) -> Tensor:
        m, beta = self.margin(view), self.part.beta
        if self.part.by == "ipo":
            return (m - 1 / (2 * beta)).square()
        if self.part.by == "hinge":
            return (1 - beta * m).clamp(min=0.0)
        e, gamma = self.part.wrong, self.part.gamma
        right = -F.logsigmoid(beta * m - gamma)
        return right if not e else (1 - e) * right - e * F.logsigmoid(gamma - beta * m)

    def margin(self, view: View) -> Tensor:
        """m, [rows]."""
        pi, c = said(view)
        s = column(view, "side", pi) * c
        if self.part.per == "token":
            preferred, other = ((c * mine).sum(1, keepdim=True) for mine in (s > 0, s < 0))
            s = s / torch.where(s > 0, preferred, other).clamp(min=1.0)
        if self.reference is not None:
            pi = pi - said(self.reference(view)).log_probs
        return (s * pi).sum(1)

    def weight(self, view: View) -> Tensor | None:
        return None
