"""MRT: reinforcement of answers that go on from a common beginning, with a bonus for the progress of the next block.

    z_0 .. z_j-1    the first blocks of an answer of the model's own;    y_1 .. y_G go on from there
    R_i = right_i + alpha [ J(z_0:j) - J(z_0:j-1) ]        J: how likely an answer that is forced now is right
    A_i = (R_i - mean R) / std R

A block ends with a token that holds one of `ends`; `force` is the text that ends thinking. alpha=0: only beginnings
are common. See `own_prefixes` and `progress_reward`.

Paper:   "Optimizing Test-Time Compute via Meta Reinforcement Fine-Tuning" Qu et al. 2025.
         https://arxiv.org/abs/2503.07572
Claim:   after as many updates, the area under accuracy by budget is at least 5% higher than with outcomes alone, and
         the first success comes after at least 20% fewer tokens; with the whole budget no fewer answers are right.
Needs:   questions; a model that thinks in blocks before it answers.
Differs: reinforcement; the paper's variant that imitates is `mrt_star`. alpha and M are not the paper's, which tunes
         them. The bonus is for the next block however long it is, so a model may write longer ones. In the world of its
         claim the first success can come at most 18% sooner, and a penalty on length does as well.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.own_prefixes import own_prefixes
from regraft.parts.transforms.progress_reward import progress_reward
from regraft.recipes.repairing import Workshop, repair


@repair
def mrt(
    w: Workshop,
    *,
    ends: tuple[str, ...] = ("\n",),
    force: str = "</think>",
    alpha: float = 1.0,
    M: int = 4,
    blocks: int = 1,
    after: int = 32,
    scaled: bool = True,
) -> None:
    """`after`: tokens of a forced answer at most. `scaled`: whether advantages are divided by the deviation."""
    asking = w.lesson.asking
    begun = own_prefixes(ends, force, asking.tokens, asking.how.temperature, asking.at_once)
    progress = progress_reward(
        w.lesson.judge, ends, force, alpha, M, blocks, after, asking.how.temperature, asking.at_once
    )
    loss = policy_gradient(per=asking.tokens)
    w.fit(w.reinforced(then=(progress, group_advantage(scaled=scaled)), loss=loss, start=begun))
