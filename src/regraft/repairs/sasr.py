"""SASR: each step imitates or reinforces, by how far the model has moved from the demonstrations.

    steps 1 .. W:   imitation; then theta_W is the reference of reinforcement
    step t > W:     imitation with probability p_t = ||grad L_SFT|| / (||grad L_SFT|| + gamma ||grad L_SFT at W||),
                    the gradient of the last step that imitated;    else reinforcement with a divergence to theta_W

`warm`: W as a part of the updates. `p`: another p_t from the first step on, a number or a schedule: `cooldown` from 1
to 0.5 imitates in half of the steps after the warm-up.

Paper:   "Step-wise Adaptive Integration of Supervised Fine-tuning and Reinforcement Learning for Task-Specific LLMs"
         Chen et al. 2025. https://arxiv.org/abs/2505.13026
Claim:   on harder questions no worse than imitation alone and reinforcement alone, and no worse than either of the two
         in half of the steps.
Needs:   demonstrations.
Differs: the formula is from reviews of the paper, which we could not read in full; of the warm-up they say an epoch.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Knob, Plan
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.references.following import following
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.sometimes import sometimes
from regraft.parts.schedules.norm_ratio import norm_ratio
from regraft.recipes.repairing import SHOWN, Workshop, repair


@repair
def sasr(w: Workshop, *, warm: float = 0.2, gamma: float = 1.0, kl: float = 0.04, p: Knob | None = None) -> None:
    if not 0 < warm <= 1:
        raise RegraftError(f"sasr: warm is {warm}; it must be over 0 and at most 1")
    if w.lesson.shown is None:
        raise RegraftError("sasr: there are no demonstrations", do="Give answers to learn from, or another repair")
    W = max(1, round(warm * w.left))
    ratio = norm_ratio(SHOWN, warm=W, gamma=gamma)
    shown = sometimes(shuffled(SHOWN), ratio if p is None else p)
    loss = policy_gradient(per=w.lesson.asking.tokens, kl=kl, reference=following(m=0.0, every=W, until=W))
    w.fit(w.imitated(shown, solo=True) + w.reinforced(loss=loss) + Plan(gradients=(ratio,)))
