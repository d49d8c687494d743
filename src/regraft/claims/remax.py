"""ReMax against REINFORCE without a baseline and with a moving average, and against PPO with a value head.

Seeds 0 to 4 were judged in an earlier setting, in which the base did not always heed the want: others are judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import Context, Grads, Transform
from regraft.core.plan import Plan, Weighted
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.numerics.rollout import uncounted
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.losses.value import value
from regraft.parts.trainables.value_head import value_head
from regraft.parts.transforms.gae import gae
from regraft.parts.transforms.greedy_advantage import greedy_advantage
from regraft.parts.transforms.moving_advantage import moving_advantage
from regraft.recipes.repairing import RL
from regraft.worlds import wanted

UPDATES, WRITTEN = 100, 64
"""Answers written for an update."""
MEASURED, ROWS = 100, 32
"""Gradients of the base that are measured, each of so many answers."""
LENGTH = wanted.LENGTH
REINFORCE = policy_gradient(clip=None, per=LENGTH)
PPO = Plan(losses=(Weighted(value(clip=None, per=LENGTH), 0.1, on=(RL,)),), trainables=(value_head(lr=10.0),))


@dataclass(frozen=True, eq=False)
class measured:
    """Keeps each gradient, and lets nothing move."""

    found: list[Tensor] = field(default_factory=list)

    def begin(self, ctx: Context) -> measured:
        return self

    def update(self, grads: Grads) -> Grads:
        self.found.append(torch.cat([g.flatten() for g in grads.values()]).double())
        return {name: torch.zeros_like(g) for name, g in grads.items()}


def variance(seed: int, then: Sequence[Transform], **knobs: Any) -> float:
    """Of the gradient of the base: the mean squared distance from the mean."""
    w = wanted.workshop(seed, MEASURED, ROWS, 1.0)
    w.training = replace(w.training, optimizer="SGD", clip=None)
    keep = measured()
    with uncounted():
        w.fit(w.reinforced(then=then, loss=REINFORCE, **knobs) + Plan(gradients=(keep,)))
    g = torch.stack(keep.found)
    return float((g - g.mean(0)).square().sum(1).mean())


def arm(
    lr: float, then: Transform, rows: int = WRITTEN, loss: Any = REINFORCE, more: Plan | None = None, **knobs: Any
) -> Arm:
    """The share of wanted letters; of methods without a value also the variance of the base's gradient."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w = wanted.workshop(seed, UPDATES, rows, lr, meter)
        with one_thread():
            plan = w.reinforced(then=(then,), loss=loss, **knobs)
            w.fit(plan if more is None else plan + more)
            found = {"wanted": wanted.share(w.model, seed)}
            return found if more is not None else {**found, "variance": variance(seed, (then,), **knobs)}

    return run


claim = Claim(
    says="as many tokens written earn at least 10% more than without a baseline and no more than 3 points less than "
    "PPO with a value head; the gradient of the base varies at most half as much as without a baseline",
    setting=f"a Llama of 0.02M weights writes {LENGTH} letters and is rewarded for each that is the wanted one, and by "
    f"a number of the question's own; {UPDATES} updates, {WRITTEN} answers written for each, greedy ones among them. "
    "Each arm has the best of three learning rates, PPO of 1, 2 and 4 epochs, too. The variance is that of as many "
    "sampled answers: ReMax writes a greedy one for each of them. PPO's value is a head on the same network, so memory "
    "is the same",
    arms={
        "ReMax": arm(4e-3, greedy_advantage(), rows=WRITTEN // 2, greedy=True),
        "no baseline": arm(2e-3, moving_advantage(m=1.0)),
        "moving average": arm(2e-3, moving_advantage()),
        "PPO": arm(4e-3, gae(beta=0.0), 2 * WRITTEN, loss=policy_gradient(per=LENGTH), more=PPO, epochs=2),
    },
    tests=(
        Test("wanted", "ReMax", "no baseline", relative=0.1, lower_is_better=False),
        Test("wanted", "ReMax", "PPO", by=-3.0, lower_is_better=False),
        Test("variance", "ReMax", "no baseline", at_most_ratio=0.5),
    ),
    budget="written",
    seeds=(5, 6, 7, 8, 9),
    calibrated_on=(100, 101),
)
