"""Outcomes alone, a capped bonus for tries beside them, and one that outweighs them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.core.parts import Transform
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.parts.transforms.exploration_reward import exploration_reward
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.worlds import trails

STEPS, EACH, TRACES, WARM, SECOND = 50, 500, 250, 60, 0.02
ENDS, ALPHA, TOO_SMALL = (trails.YES, trails.NO), 0.8, 0.2


def short(row: Mapping[str, Any], dice: random.Random) -> str:
    """The right try alone, now and then after a wrong one."""
    return trails.trace(row, int(dice.random() < SECOND), dice)


def warmed(seed: int) -> CausalLM:
    return trails.warmed(seed, (trails.EASY, trails.HARD), short, TRACES, updates=WARM)


def arm(bonus: Sequence[Transform] = ()) -> Arm:
    """What is likeliest after hard questions: see `trails.scores`."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w = trails.workshop(warmed(seed), seed, (trails.HARD,), EACH, STEPS, meter)
        with one_thread():
            w.fit(w.reinforced(then=[*bonus, group_advantage(scaled=False)]))
        return trails.scores(w.model, seed, trails.HARD)

    return run


def before(meter: Meter, seed: int) -> dict[str, float]:
    return trails.scores(warmed(seed), seed, trails.HARD)


claim = Claim(
    says="a capped bonus for tries answers at least 3 points more of hard questions than outcomes alone, and tries "
    "more than before; with an alpha that is too small, answers are longer than with outcomes alone, and fewer are "
    "right",
    setting=f"trails of which one of 8 starts is right, a Llama of 0.1M weights; a warm-up on {2 * TRACES} traces of "
    f"which {SECOND:.0%} show a second try; {STEPS} updates of 128 rows; alpha {ALPHA}, or {TOO_SMALL} without the "
    "guard; advantages are not scaled: scaled ones let the bonus decide wherever outcomes are alike",
    arms={
        "warm-up": before,
        "outcome": arm(),
        "bonus": arm([exploration_reward(ends=ENDS, alpha=ALPHA)]),
        "bonus, alpha too small": arm([exploration_reward(ends=ENDS, alpha=TOO_SMALL, guard=False)]),
    },
    tests=(
        Test("right", "bonus", "outcome", by=3.0, lower_is_better=False),
        Test("different", "bonus", "warm-up", lower_is_better=False),
        Test("length", "bonus, alpha too small", "outcome", lower_is_better=False),
        Test("right", "outcome", "bonus, alpha too small", lower_is_better=False),
    ),
    budget="updates",
    unequal={"warm-up": "before anything is reinforced"},
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
