"""New rows that leave the old classes alone, over digits that come once."""

from __future__ import annotations

from regraft.core.plan import Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.losses.asymmetric import asymmetric
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived, memory

ONCE = {"epochs": 1, "batch": 10, "lr": 0.2}
FEW = 50


def arm(on_new: Weighted) -> Arm:
    labels = (on_new, Weighted(nll(), 1.0, ("memory",)))
    return lambda meter, seed: lived(Strategy(memory(size=FEW), labels), meter, seed, **ONCE)  # type: ignore[arg-type]


claim = Claim(
    says="when every row comes once and the memory is small, it is more accurate than plain replay and forgets at most "
    "3/4 of what that forgets",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, one pass, 10 new rows and 10 of "
    "50 in memory (the paper's smallest: 5 a class) a batch; the rate chosen on documents of topics",
    arms={"ER": arm(Weighted(nll(), 1.0, ("new",))), "ER-ACE": arm(Weighted(asymmetric(), 1.0, ("new",)))},
    tests=(
        Test("forgetting", "ER-ACE", "ER", relative=0.25),
        Test("accuracy", "ER-ACE", "ER", lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(10)),
)
