"""Weights that the outputs are sensitive to are held, over digits whose pixels are reordered."""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.penalties.mas import mas
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived

STRENGTH = 0.1


def arm(strength: float) -> Arm:
    held = Strategy(Plan(penalties=(Weighted(mas(), strength),)))
    return lambda meter, seed: lived(held, meter, seed, "inputs")


claim = Claim(
    says="when the inputs change and the classes stay, it forgets at most 3/4 of what plain training forgets, and is "
    "more accurate over all tasks",
    setting="digits in 5 orders of their pixels, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 rows a "
    "batch; strength chosen on documents of topics",
    arms={
        "naive": lambda meter, seed: lived(Strategy(), meter, seed, "inputs"),
        "MAS": arm(STRENGTH),
        "MAS, strength 0": arm(0.0),
    },
    tests=(
        Test("forgetting", "MAS", "naive", relative=0.25),
        Test("accuracy", "MAS", "naive", lower_is_better=False),
    ),
    budget="updates",
    null=("MAS, strength 0", "naive"),
    seeds=(0, 1, 2, 3, 4),
)
