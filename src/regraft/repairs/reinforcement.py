"""Reinforcement: the group-relative policy gradient on the model's own answers, judged by the checker.

    x ~ questions,    y_1 .. y_G ~ pi(. | x),    A_i = (r_i - mean r) / std r

Questions of each skill come as often as there are, or by how much a skill still teaches (`by_skill`).

Paper: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" Shao et al. 2024.
       https://arxiv.org/abs/2402.03300
Paper: "DUMP: Automated Distribution-Level Curriculum Learning for RL-based LLM Post-training" Wang et al. 2025.
       https://arxiv.org/abs/2504.09710
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.dump import dump
from regraft.recipes.repairing import ITEMS, Workshop, repair


@repair
def reinforcement(w: Workshop, *, by_skill: bool = False, kl: float = 0.0) -> None:
    loss = policy_gradient(per=w.lesson.asking.tokens, kl=kl)
    w.fit(w.reinforced(dump(ITEMS, "skill") if by_skill else None, loss=loss))
