"""The policy gradient, with what its many methods change as knobs: clip, mean, ratio, reference, entropy.

    l_r = (1 / n_r) sum_t c_rt [ -min(rho_rt A_rt, clip(rho_rt, 1 - eps, 1 + eps') A_rt) + beta k_rt - alpha H_rt ]

    rho = pi(y_t) / pi_old(y_t)      ratio="token"; "answer": of the whole answer; "mean": its geometric mean (GSPO)
    k   = rho (q - log q - 1)        q = pi_ref(y_t) / pi(y_t), an estimate of KL(pi || pi_ref) that is never negative
    H   = the entropy of pi in place t, in nats

c: what counts, the tokens that the model wrote. per="row": n_r = sum_t c_rt, and rows count alike (GRPO); per="token":
the same, and rows count by their tokens (DAPO); a number: n_r is that number, the longest answer there could be, and
rows count alike (Dr. GRPO). Without a clip the ratio is not bounded; on rows that the model itself has just written it
is 1, and with per=1 the gradient is REINFORCE's. ratio="answer" is RLOO as TRL runs it.

Paper:   "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" Shao et al. 2024.
         https://arxiv.org/abs/2402.03300
Paper:   "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" Yu et al. 2025.
         https://arxiv.org/abs/2503.14476
Paper:   "Understanding R1-Zero-Like Training: A Critical Perspective" Liu et al. 2025. https://arxiv.org/abs/2503.20783
Paper:   "Group Sequence Policy Optimization" Zheng et al. 2025. https://arxiv.org/abs/2507.18071
Paper:   "DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models" DeepSeek-AI 2025.
         https://arxiv.org/abs/2512.02556
Paper:   "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
         Liang et al. 2025. https://arxiv.org/abs/2507.06892
Needs:   a column `advantage`, for rows or their places. `old_log_probs`, of the places under the policy that wrote
         them; without it the policy is taken to be that one. `centre`, of the places: log-ratios around which the clip
         lies, in place of 0 (rows of older policies). With `kl`, a model in the role `reference`, or a reference
         that moves.
Differs: GRPO's own k has no rho (`unbiased=False`), and then its gradient is not that of the divergence.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import Per, check_per, column, entropies, said, summed


@dataclass(frozen=True)
class policy_gradient:
    clip: tuple[float, float] | None = (0.2, 0.2)
    per: Per = "row"
    ratio: Literal["token", "mean", "answer"] = "token"
    kl: float = 0.0
    unbiased: bool = True
    reference: str | Reference = "before"
    entropy: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.clip is not None and not (0 <= self.clip[0] <= 1 and 0 <= self.clip[1] < float("inf")):
            raise RegraftError(f"policy_gradient: clip is {self.clip}; the first is from 0 to 1, the second 0 or more")
        check_per(self.per, "policy_gradient")
        if self.ratio not in ("token", "mean", "answer"):
            raise RegraftError(f"policy_gradient: ratio is {self.ratio!r}; it must be 'token', 'mean' or 'answer'")
        if not self.temperature > 0:
            raise RegraftError(f"policy_gradient: the temperature is {self.temperature}; it must be over 0")
        if self.kl < 0:
            raise RegraftError(f"policy_gradient: kl is {self.kl}; it must be 0 or more")

    def begin(self, ctx: Context) -> _PolicyGradient:
        return _PolicyGradient(self, other_model(self.reference, ctx) if self.kl else None)


class _PolicyGradient:
    def __init__(self, part: policy_gradient, reference: Callable[[View], View] | None) -> None:
        self.part, self.reference = part, reference

    def loss(self, view: View) -> Tensor:
        part = self.part
        pi, c = said(view, part.temperature)
        A = column(view, "advantage", pi)
        old = column(view, "old_log_probs", pi) if "old_log_probs" in view.rows else pi.detach()
        apart = pi - old
        if part.ratio != "token":
            apart = (apart * c).sum(1, keepdim=True)
        if part.ratio == "mean":
            apart = apart / c.sum(1, keepdim=True).clamp(min=1.0)
        rho = apart.exp()
        each = -rho * A
        if part.clip is not None:
            centre = column(view, "centre", pi).exp() if "centre" in view.rows else torch.ones_like(rho)
            each = torch.maximum(each, -rho.clamp(centre - part.clip[0], centre + part.clip[1]) * A)
        if self.reference is not None:
            log_q = said(self.reference(view), part.temperature).log_probs - pi
            k = log_q.exp() - log_q - 1
            each = each + part.kl * (rho * k if part.unbiased else k)
        if part.entropy:
            each = each - part.entropy * entropies(view, part.temperature)
        return summed(each, c, part.per)

    def weight(self, view: View) -> Tensor | None:
        return view.size if self.part.per == "token" else None
