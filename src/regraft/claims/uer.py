"""New rows that teach directions, memory that also teaches lengths, over digits that come once."""

from __future__ import annotations

from regraft.core.parts import Loss
from regraft.core.plan import Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.losses.cosine import cosine
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived, memory

ONCE = {"epochs": 1, "batch": 10, "lr": 0.2}
FEW = 50


def arm(on_new: Loss, on_memory: Loss) -> Arm:
    labels = (Weighted(on_new, 1.0, ("new",)), Weighted(on_memory, 1.0, ("memory",)))
    return lambda meter, seed: lived(Strategy(memory(size=FEW), labels), meter, seed, **ONCE)  # type: ignore[arg-type]


claim = Claim(
    says="when every row comes once and the memory is small, it is more accurate than plain replay by 3 points and "
    "forgets at most 4/5 of what that forgets; it is no less accurate than cosines on both",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, one pass, 10 new rows and 10 of "
    "50 in memory a batch; the rate as for ER-ACE, chosen on documents of topics; s = 10",
    arms={
        "ER": arm(nll(), nll()),
        "UER": arm(cosine(), nll()),
        "cosines on both": arm(cosine(), cosine()),
    },
    tests=(
        Test("accuracy", "UER", "ER", by=0.03, lower_is_better=False),
        Test("forgetting", "UER", "ER", relative=0.2),
        Test("accuracy", "UER", "cosines on both", lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(10)),
)
