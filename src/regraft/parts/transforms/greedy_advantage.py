"""ReMax: advantages of answers by the reward of the greedy answer to the same prompt.

    A_i = R(x, y_i) - R(x, y^)        y^: each token the likeliest

The baseline does not depend on y_i, so the gradient stays unbiased; it costs one more answer to a prompt and no value
network. With `rollouts(copies=1, greedy=True)` and `policy_gradient(clip=None, per=the longest answer)`; a reference is
held to by the loss's `kl`.

Paper:   "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models"
         Li et al. 2023. https://arxiv.org/abs/2310.10505
Claim:   the variance of the gradient is at most half of that without a baseline, and as many tokens written earn at
         least as much reward as without one, and about as much as PPO with a value head.
Needs:   columns `group`, `reward`, and `copy`, -1 for the greedy answer, as `rollouts(greedy=True)` gives them.
Differs: the authors add the KL of each token to its advantage, and discount the reward by 0.99 a token.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards


@transform
def greedy_advantage(rows: Rows, ctx: Context) -> Rows:
    R, greedy = finite_rewards(rows["reward"]), rows["copy"] < 0
    groups, group = rows["group"].unique(return_inverse=True)
    b = R.new_full((len(groups),), float("nan")).index_copy(0, group[greedy], R[greedy])
    if len(without := b.isnan().nonzero()):
        raise RegraftError(
            f"greedy_advantage: group {int(groups[int(without[0])])} has no greedy answer",
            do="Say greedy=True in rollouts",
        )
    return rows.having(advantage=(R - b[group]).float())
