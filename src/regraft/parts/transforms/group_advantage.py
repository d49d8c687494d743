"""Advantages of answers to one prompt by each other's rewards.

    A_i = (R_i - b_i) / s

    by="group"   b: the mean reward of the answers to the prompt      s: their standard deviation (`scaled`), or 1
    by="others"  b: the mean reward of the other answers (RLOO)       s: 1

A group whose rewards are all equal has advantages of 0. Scaled is GRPO; not scaled Dr. GRPO. An answer without others
has no baseline, and an advantage of 0.

Paper: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" Shao et al. 2024.
       https://arxiv.org/abs/2402.03300
Paper: "Back to Basics: Revisiting REINFORCE-Style Optimization for Learning from Human Feedback in LLMs"
       Ahmadian et al. 2024. https://arxiv.org/abs/2402.14740
Paper: "Understanding R1-Zero-Like Training: A Critical Perspective" Liu et al. 2025. https://arxiv.org/abs/2503.20783
Needs: columns `group`, the number of each row's prompt, and `reward`.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from typing import Literal

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.advantages import advantages, finite_rewards


@transform
def group_advantage(
    rows: Rows,
    ctx: Context,
    *,
    by: Literal["group", "others"] = "group",
    scaled: bool = True,
    epsilon: float = 1e-4,
) -> Rows:
    if by not in ("group", "others"):
        raise RegraftError(f"group_advantage: by is {by!r}; it must be 'group' or 'others'")
    R = finite_rewards(rows["reward"])
    return rows.having(advantage=advantages(R, rows["group"], by=by, scaled=scaled, epsilon=epsilon).float())
