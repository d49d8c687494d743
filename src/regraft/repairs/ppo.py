"""PPO: the clipped policy gradient, with advantages by a value head that learns along.

    L = L_policy(clip) + alpha L_value
    A_t by GAE(gamma, lam) of r_t = -beta (log pi(y_t) - log pi_ref(y_t)) + [t is the last token] R

Each batch of answers, one to a question, is learned from `epochs` times. pi_ref: the model as it is at the beginning.

Paper:   "Proximal Policy Optimization Algorithms" Schulman et al. 2017. https://arxiv.org/abs/1707.06347
Paper:   "High-Dimensional Continuous Control Using Generalized Advantage Estimation" Schulman et al. 2015.
         https://arxiv.org/abs/1506.02438
Differs: the value is a head on the policy's own network.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.losses.value import value
from regraft.parts.trainables.value_head import value_head
from regraft.parts.transforms.gae import gae
from regraft.recipes.repairing import RL, Workshop, repair


@repair
def ppo(
    w: Workshop,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    beta: float = 0.05,
    clip: float = 0.2,
    alpha: float = 0.1,
    epochs: int = 2,
    head: float = 1.0,
) -> None:
    w.fit(plan(w, gamma=gamma, lam=lam, beta=beta, clip=clip, alpha=alpha, epochs=epochs, head=head))


def plan(
    w: Workshop, *, gamma: float, lam: float, beta: float, clip: float, alpha: float, epochs: int, head: float
) -> Plan:
    """`head`: a factor on the learning rate of the value head."""
    asking = w.lesson.asking
    advantages = gae(gamma, lam, beta, temperature=asking.how.temperature, chunk=asking.at_once)
    loss = policy_gradient(clip=(clip, clip), temperature=asking.how.temperature)
    written = w.reinforced(then=(advantages,), loss=loss, copies=1, epochs=epochs)
    return written + Plan(losses=(Weighted(value(clip), alpha, on=(RL,)),), trainables=(value_head(head),))
