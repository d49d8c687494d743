"""Training on the memory alone: GDumb, over digits two at a time."""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.strategies.er import er
from regraft.strategies.gdumb import gdumb
from regraft.worlds.splits import lived

MEMORY, LR = 50, 0.1


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, lr=LR)


claim = Claim(
    says="a network trained anew on the memory alone is no less accurate, to 2 points, than replay that reads the "
    "whole stream, at equal memory and updates",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch "
    "and 32 of 50 in memory, and as many steps on 32 of 50 alone; the rate chosen on other seeds",
    arms={
        "naive": arm(Strategy(Plan())),
        "ER": arm(er(memory=MEMORY)),
        "GDumb": arm(gdumb(memory=MEMORY)),
    },
    tests=(
        Test("accuracy", "GDumb", "ER", by=-0.02, lower_is_better=False),
        Test("accuracy", "GDumb", "naive", by=0.2, lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(10)),
)
