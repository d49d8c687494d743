"""How far the policy is from another model, on answers that it wrote: the divergence of `policy_gradient` by itself.

    l_r = (1 / n_r) sum_t c_rt rho_rt (q_rt - log q_rt - 1)      q = pi_ref(y_t) / pi(y_t),  rho = pi(y_t) / pi_old(y_t)

An estimate of KL(pi || pi_ref) that is never negative. Two of them, with weights that move, hold the policy near two
models: near where it began and near where it last was, in ReMix. n_r is as in `policy_gradient`.

Paper: "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
       Liang et al. 2025. https://arxiv.org/abs/2507.06892
Paper: "DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models" DeepSeek-AI 2025.
       https://arxiv.org/abs/2512.02556
Needs: a model in the role `reference`, or a reference that moves; `old_log_probs` of rows that another policy wrote.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import Per, check_per, column, said, summed


@dataclass(frozen=True)
class divergence:
    reference: str | Reference = "before"
    per: Per = "row"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_per(self.per, "divergence")
        if not self.temperature > 0:
            raise RegraftError(f"divergence: the temperature is {self.temperature}; it must be over 0")

    def begin(self, ctx: Context) -> _Divergence:
        return _Divergence(self, other_model(self.reference, ctx))


class _Divergence:
    def __init__(self, part: divergence, reference: Callable[[View], View]) -> None:
        self.part, self.reference = part, reference

    def loss(self, view: View) -> Tensor:
        part = self.part
        pi, c = said(view, part.temperature)
        log_q = said(self.reference(view), part.temperature).log_probs - pi
        old = column(view, "old_log_probs", pi) if "old_log_probs" in view.rows else pi.detach()
        return summed((pi - old).exp() * (log_q.exp() - log_q - 1), c, part.per)

    def weight(self, view: View) -> Tensor | None:
        return view.size if self.part.per == "token" else None
