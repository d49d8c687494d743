"""A small memory against none, over digits two at a time."""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived, memory


def arm(plan: Plan) -> Arm:
    return lambda meter, seed: lived(Strategy(plan), meter, seed)


claim = Claim(
    says="200 rows of memory, drawn beside the new ones, forget at most half of what plain training forgets",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch",
    arms={"naive": arm(Plan()), "memory": arm(memory()), "memory, none drawn": arm(memory(0.0))},
    tests=(
        Test("forgetting", "memory", "naive", relative=0.5),
        Test("accuracy", "memory", "naive", by=0.2, lower_is_better=False),
    ),
    budget="updates",
    null=("memory, none drawn", "naive"),
    seeds=(0, 1, 2, 3, 4),
)
