"""Rewards of steps that a ratio of two language models gives, whatever trained it on whole answers.

    q_k = beta sum_{t in steps 1..k} c_t log(pi(y_t) / pi_ref(y_t))        what the answer is worth after step k
    p_k = q_k - q_{k-1}                                                    their sum is the reward of the whole answer

`of="steps"`: an answer's `reward` is made of p by `by`, its smallest step or their sum; of="values": of q. A step ends
with a token that holds one of `ends`. p is in column `process`, at the last token of each step.

Paper:   "Free Process Rewards without Process Labels" Yuan et al. 2024. https://arxiv.org/abs/2412.01981
Needs:   rows as rollouts have them, and the models in two roles: `judge`, trained by `implicit_reward`,
         `direct_preference` or `kto`, and the `reference` that it began from. reference=None: the judge alone, as
         the authors find possible where it is near the reference.
Tags:    reinforcement learning, preference optimisation, language model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.other_models import in_role
from regraft.numerics.steps import By, check_by, ends_in, on_places, steps_of, summed, worth
from regraft.numerics.token_loss import log_probs_of


@dataclass(frozen=True)
class process_reward:
    ends: tuple[str, ...] = ("\n",)
    beta: float = 0.05
    by: By = "min"
    of: Literal["steps", "values"] = "steps"
    judge: str = "judge"
    reference: str | None = "before"

    def __post_init__(self) -> None:
        check_by(self.by, "process_reward")
        if not self.beta > 0:
            raise RegraftError(f"process_reward: beta is {self.beta}; it must be over 0")
        if self.of not in ("steps", "values"):
            raise RegraftError(f"process_reward: of is {self.of!r}; it must be 'steps' or 'values'")

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        judge: Any = in_role(self.judge, ctx, "process_reward")
        log_ratio: Tensor = log_probs_of(judge, rows)
        if self.reference is not None:
            log_ratio = log_ratio - log_probs_of(in_role(self.reference, ctx, "process_reward"), rows)
        steps = steps_of(rows, ends_in(judge, self.ends))
        p = summed(self.beta * log_ratio.double(), steps)
        R = worth(p if self.of == "steps" else p.cumsum(1), steps, self.by)
        return rows.having(process=on_places(p, steps).float(), reward=R.float())
