"""A reward model that is a ratio of two language models, learned from answers that are right or wrong as a whole.

    r_r = beta sum_t c_rt log(pi(y_t) / pi_ref(y_t))
    l_r = -[ o_r log sigma(r_r) + (1 - o_r) log(1 - sigma(r_r)) ]        o: the answer's reward, from 0 to 1

Whatever makes r the reward of whole answers makes the same sum up to a step the value of what is written so far
(`process_reward`): steps are judged without a label of any. `direct_preference` and `kto` train the same r on pairs,
and on good and bad answers.

Paper:   "Free Process Rewards without Process Labels" Yuan et al. 2024. https://arxiv.org/abs/2412.01981
Claim:   it finds the step that went wrong without step labels, and chooses among answers as well as a reward model
         that was trained on Monte-Carlo values of every step, for a tenth of the tokens that have to be written.
Needs:   a column `reward`, from 0 to 1; a model in the role `reference`, which wrote the answers.
Tags:    preference optimisation, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import said


@dataclass(frozen=True)
class implicit_reward:
    beta: float = 0.05
    reference: str | Reference = "before"

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise RegraftError(f"implicit_reward: beta is {self.beta}; it must be over 0")

    def begin(self, ctx: Context) -> _ImplicitReward:
        return _ImplicitReward(self, other_model(self.reference, ctx))


class _ImplicitReward:
    def __init__(self, part: implicit_reward, reference: Callable[[View], View]) -> None:
        self.part, self.reference = part, reference

    def loss(self, view: View) -> Tensor:
        pi, c = said(view)
        r = self.part.beta * ((pi - said(self.reference(view)).log_probs) * c).sum(1)
        o = view.rows["reward"].to(r).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(r, o, reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
