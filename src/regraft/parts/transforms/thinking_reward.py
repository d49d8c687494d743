"""A judge's score of how an answer was reasoned, beside its outcome: trusted by what it tells apart, and faded out.

    R_i = o_i + gamma e^(-step / T) alpha t_i
    gamma = 1                       mu_c >= mu_w        mu_c, mu_w: the mean t of the right and of the wrong answers to
            e^(mu_c - mu_w)         else                a question; right is an outcome of 1 or more

After what gives the outcome in the transforms of `rollouts`, before advantages. `judge` gives t, as a column `reward`;
`step` counts updates. A question whose answers are all right, or all wrong, shows nothing of the judge: t does not
count there. `least`: nor does it in an answer whose outcome is less, but it counts in mu_w.

`trusted=False`: gamma is 1 everywhere that t counts. `T=inf`: it is not faded.

The columns are `reward/outcome`, `reward/thinking` and `trust`, o, t and gamma; gamma is NaN where t does not count for
the question.

Paper:   "SophiaVL-R1: Reinforcing MLLMs Reasoning with Thinking Reward" Fan et al. 2025.
         https://arxiv.org/abs/2505.17018
Claim:   a judge that is misled about some questions, trusted and faded, makes more answers right, and more of these for
         right reasons, than outcomes alone; added as it is, it makes no more right.
Needs:   columns `reward`, of outcomes, and `group`; a judge, a transform such as `step_judge`.
Differs: answers of a low outcome are judged, too, and by default rewarded, as in the paper; the released code has
         their t at 0, also in mu_w. The authors' judge is a model of 3B weights that was taught on 156,000 scored
         answers.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards


@dataclass(frozen=True)
class thinking_reward:
    judge: Transform
    alpha: float = 0.3
    T: float = 500.0
    trusted: bool = True
    least: float = -math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise RegraftError(f"thinking_reward: alpha is {self.alpha}; it must be 0 or more")
        if not self.T > 0:
            raise RegraftError(f"thinking_reward: T is {self.T}; it must be over 0")

    def begin(self, ctx: Context) -> _ThinkingReward:
        return _ThinkingReward(self, ctx.at_work(self.judge), ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _ThinkingReward:
    def __init__(self, part: thinking_reward, judge: Transform, ctx: Context) -> None:
        self.part, self.judge, self.progress = part, judge, ctx.progress

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        part, o = self.part, finite_rewards(rows["reward"])
        scored = self.judge(rows, ctx)
        if scored.count != rows.count or "reward" not in scored:
            raise RegraftError("thinking_reward: its judge must keep every row and give a column `reward`")
        t = finite_rewards(scored["reward"], "score of its judge")
        gamma = trust(t, o >= 1, rows["group"])
        counts = ~gamma.isnan() & (o >= part.least)
        weight = part.alpha * math.exp(-self.progress().step / part.T)
        bonus = weight * t * (gamma if part.trusted else 1.0)
        R = o + bonus.masked_fill(~counts, 0.0)
        columns = {"reward/outcome": rows["reward"], "reward/thinking": t.float(), "trust": gamma.float()}
        return rows.having(**columns, reward=R.to(rows["reward"].dtype))


def trust(t: Tensor, right: Tensor, group: Tensor) -> Tensor:
    """gamma of each row's group, float64 [rows]; NaN where its answers are all right, or all wrong."""
    groups, which = group.unique(return_inverse=True)

    def mean(of: Tensor) -> Tensor:
        sums, counts = (t.new_zeros(len(groups)).index_add_(0, which, each) for each in (t * of, of.to(t)))
        return sums / counts

    return (mean(right) - mean(~right)).clamp(max=0.0).exp()[which]
