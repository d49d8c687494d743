"""ReMix: reinforcement that learns from earlier policies' answers too, and begins anew on its own where that has paid.

    steps 1 .. T:   a part p of a batch is of the last N policies, m steps learn from it, clipped around pi_k / pi_k-i
                    + beta (lam(t) KL(pi || pi_0) + (1 - lam(t)) KL(pi || pi_k)) - alpha H
    then:           new answers alone, a step each,  + beta KL(pi || pi_T) - alpha H

lam comes down in stairs from 1 to 0.5. A step of the first part writes (1 - p) / m of what a step of the second writes.
`T`: a part of the updates.

Paper:   "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
         Liang et al. 2025. https://arxiv.org/abs/2507.06892
Claim:   90% of what GRPO comes to with half of the tokens written; in the end no more than a point behind it, and two
         ahead of going on without the second part; a part of 0.9 falls behind.
Differs: pi_k, which wrote the batch, is the policy of the second divergence, not the one before it. The second part
         begins with a new optimizer. Steps of lam are updates. Advantages are GRPO's.
Tags:    reinforcement learning, replay, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.divergence import divergence
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.references.following import following
from regraft.parts.samplers.mixed_policies import mixed_policies
from regraft.parts.schedules.stairs import stairs
from regraft.recipes.repairing import RL, Workshop, repair


@repair
def remix(
    w: Workshop,
    *,
    p: float = 0.4,
    N: int = 2,
    m: int = 2,
    T: float = 0.5,
    beta: float = 0.001,
    alpha: float = 0.0,
) -> None:
    if not 0 <= T <= 1:
        raise RegraftError(f"remix: T is {T}; it must be from 0 to 1")
    first = round(T * w.left)
    w.fit(mixed(w, p=p, N=N, m=m, beta=beta, alpha=alpha), first)
    w.fit(w.reinforced(loss=policy_gradient(per=w.lesson.asking.tokens, kl=beta, entropy=alpha)))


def mixed(w: Workshop, *, p: float, N: int, m: int, beta: float, alpha: float) -> Plan:
    """The first part."""
    asking = w.lesson.asking
    plan = w.reinforced(loss=policy_gradient(per=asking.tokens, entropy=alpha))
    sampler = mixed_policies(plan.feeds[0].sampler, p, N, m, at_once=asking.at_once)
    near = Weighted(divergence(per=asking.tokens), stairs(height=beta), on=(RL,))
    last = divergence(following(m=0.0, every=m), per=asking.tokens)
    return Plan(
        (Feed(RL, sampler),),
        (*plan.losses, near, Weighted(last, stairs(height=beta, rest=True), on=(RL,))),
    )
