"""Memory rows that the coming step would harm most, against rows at random, over digits that come once."""

from __future__ import annotations

from regraft.core.plan import Feed, Plan
from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.mir import mir
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived, memory

ONCE = {"epochs": 1, "batch": 10, "lr": 0.2}
SIZE, CANDIDATES = 200, 4.0


def random_rows(meter: Meter, seed: int) -> dict[str, float]:
    return lived(Strategy(memory(size=SIZE)), meter, seed, **ONCE)  # type: ignore[arg-type]


def most_interfered(meter: Meter, seed: int) -> dict[str, float]:
    sampler = mir(reservoir(SIZE), nll(), CANDIDATES, alpha=ONCE["lr"])
    retrieved = Plan(feeds=(Feed("memory", sampler, beside=1.0),))
    return lived(Strategy(retrieved), meter, seed, **ONCE)  # type: ignore[arg-type]


claim = Claim(
    says="when every row comes once, it forgets less than replay of rows at random and is more accurate",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, one pass, 10 new rows and 10 of "
    "200 in memory a batch, out of 40 candidates; candidates chosen on other seeds",
    arms={"ER": random_rows, "MIR": most_interfered},
    tests=(
        Test("forgetting", "MIR", "ER"),
        Test("accuracy", "MIR", "ER", lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(10)),
    calibrated_on=tuple(range(100, 120)),
)
