"""Five exemplars a class: iCaRL, over digits two at a time."""

from __future__ import annotations

from dataclasses import replace

from regraft.core.plan import Plan
from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.strategies.er import er
from regraft.strategies.icarl import icarl
from regraft.worlds.splits import lived

MEMORY, LR = 50, 0.1


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, lr=LR)


claim = Claim(
    says="with few rows in memory iCaRL is more accurate than plain replay by 5 points and forgets at most half as "
    "much; its means of exemplars are more accurate than its own trained head",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch "
    "and 32 of 50 in memory; the rate chosen on other seeds",
    arms={
        "naive": arm(Strategy(Plan())),
        "ER": arm(er(memory=MEMORY)),
        "iCaRL": arm(icarl(memory=MEMORY)),
        "iCaRL, trained head": arm(replace(icarl(memory=MEMORY), release=())),
    },
    tests=(
        Test("accuracy", "iCaRL", "ER", by=0.05, lower_is_better=False),
        Test("forgetting", "iCaRL", "ER", relative=0.5),
        Test("accuracy", "iCaRL", "iCaRL, trained head", lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
)
