"""T1: reinforcement that keeps exploring: many hot answers to a question, an entropy bonus, an anchor that follows.

    a part `cold`:  imitation of the demonstrations, which best show attempts that fail, too, and how that is found out
    then:           K answers to each question at a temperature over 1; only questions that some answer and some do not
        R   = right - overlong - repeated                A = R less the mean R of the other answers
        L   = (1 / sum_t c_t) sum_t c_t [ -min(rho A, clip(rho) A) + beta KL(pi || pi_ref) - alpha H ]      over tokens
        ref <- m ref + (1 - m) theta                     after every step

Paper:   "Advancing Language Model Reasoning through Reinforcement Learning and Inference Scaling" Hou et al. 2025.
         https://arxiv.org/abs/2501.11651
Claim:   32 answers to a question end better than 4; the bonus keeps the entropy at 1.5 times what it is without; an
         anchor that follows earns no less than one that stays; the longer it may think, the more is right.
Needs:   questions; demonstrations, if `cold` is to do something.
Differs: temperature, K and coefficients are not the paper's, which we do not know. A question counts as one that some
         answer and some do not where the rewards differ, penalties among them. No penalty for gibberish.
Tags:    reinforcement learning, demonstrations, weight averaging, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.references.following import following
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.length_reward import length_reward
from regraft.parts.transforms.repetition_reward import repetition_reward
from regraft.parts.transforms.rewards import Reward, rewards
from regraft.recipes.repairing import ITEMS, RL, Workshop, repair


@repair
def t1(
    w: Workshop,
    *,
    cold: float = 0.2,
    K: int | None = None,
    temperature: float = 1.2,
    alpha: float = 0.01,
    beta: float = 0.01,
    m: float = 0.99,
    overlong: float = 0.5,
    repeated: float = 0.5,
    limit: int | None = None,
    refill: int = 2,
) -> None:
    """`K`: none: as the lesson has it. `limit`: tokens over which an answer is overlong; none: one less than there may
    be, so that what did not end by itself is."""
    if not 0 <= cold <= 1:
        raise RegraftError(f"t1: cold is {cold}; it must be from 0 to 1")
    if w.lesson.shown is not None:
        w.fit(w.imitated(), round(cold * w.left))
    asking = w.lesson.asking
    judged = rewards(
        (
            Reward("right", w.lesson.judge),
            Reward("overlong", length_reward(limit or max(asking.tokens - 1, 1), most=overlong)),
            Reward("repeated", repetition_reward(most=repeated)),
        )
    )
    written = rollouts(
        shuffled(ITEMS),
        (judged, group_advantage(by="others")),
        K or asking.copies,
        asking.tokens,
        temperature,
        stop=asking.stop,
        refill=refill,
        at_once=asking.at_once,
    )
    loss = policy_gradient(per="token", kl=beta, reference=following(m=m), entropy=alpha, temperature=temperature)
    w.fit(Plan((Feed(RL, written),), (Weighted(loss, on=(RL,)),)))
