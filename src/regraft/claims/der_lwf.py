"""DER++ composed with LwF and views, against DER++ with as many rows in memory and as much to compute."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.strategies.der_lwf import der_lwf
from regraft.strategies.der_pp import der_pp
from regraft.strategies.er import er
from regraft.worlds.splits import lived


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed)


claim = Claim(
    says="with 200 rows in memory DER++ is more accurate when its old rows are seen in noisy views and hold the "
    "answers before the task, too, at an equal cost of passes",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a "
    "batch; beside them 32 of 200 in memory, or 24 where the network before the task reads these, too (a pass without "
    "gradients counted as a third of one with); alpha, noise and strength chosen on letters",
    arms={
        "ER": arm(er()),
        "DER++": arm(der_pp(alpha=1.0)),
        "views alone": arm(der_lwf(strength=0.0, beside=1.0)),
        "LwF alone": arm(der_lwf(noise=0.0)),
        "both": arm(der_lwf()),
    },
    tests=(
        Test("accuracy", "both", "DER++", lower_is_better=False),
        Test("forgetting", "both", "DER++"),
        Test("accuracy", "both", "ER", by=0.03, lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(20)),
)
