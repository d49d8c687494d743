"""ReFT: a warm-up by imitation, then PPO on the model's own answers to the same questions.

    the first part `warm_up` of the updates:   -log pi(demonstration)
    the others:   L_policy(clip) + alpha L_value,   r_t = -beta (log pi - log pi_ref) + [last token] R
    R = 1 for a right answer, 0.1 for a wrong one of the right type, 0 where there is none

pi_ref is the model after the warm-up, and the value is a head on it. R is the judge's: `verified(wrong=0.1)`.

Paper:   "ReFT: Reasoning with Reinforced Fine-Tuning" Luong et al. 2024. https://arxiv.org/abs/2401.08967
Claim:   from the same questions and demonstrations more is right than after imitation alone and after self-training;
         without the warm-up next to nothing is; a vote among several answers adds to it.
Needs:   demonstrations; a judge that gives a part of the reward for an answer of the right type.
Differs: the warm-up is a part of the updates, where the authors take one or two epochs. gamma and lam are those of
         their code; the paper has lam = 1 and gamma = 0.95.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.recipes.repairing import Workshop, repair
from regraft.repairs.ppo import plan


@repair
def reft(
    w: Workshop,
    *,
    warm_up: float = 0.3,
    gamma: float = 1.0,
    lam: float = 0.95,
    beta: float = 0.05,
    clip: float = 0.2,
    alpha: float = 5.0,
    epochs: int = 2,
    head: float = 1.0,
) -> None:
    if not 0 <= warm_up <= 1:
        raise RegraftError(f"reft: warm_up is {warm_up}; it must be from 0 to 1")
    if steps := round(warm_up * w.left):
        if w.lesson.shown is None:
            raise RegraftError("reft: there are no demonstrations", do="Give answers to learn from, or warm_up=0")
        w.fit(w.imitated(), steps)
        w.note(f"warm-up    {steps} updates on {w.lesson.shown.count} demonstrations, then {w.left} of PPO")
    w.fit(plan(w, gamma=gamma, lam=lam, beta=beta, clip=clip, alpha=alpha, epochs=epochs, head=head))
