"""Steps off the subspaces of earlier tasks, over digits whose pixels are reordered."""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.gradients.gpm import gpm
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import lived

ENERGY = 0.95


def arm(*projected: gpm) -> Arm:
    return lambda meter, seed: lived(Strategy(Plan(gradients=projected)), meter, seed, "inputs")


claim = Claim(
    says="when the inputs change and the classes stay, it forgets at most half of what plain training forgets, and is "
    "more accurate over all tasks",
    setting="digits in 5 orders of their pixels, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 rows a "
    "batch; energy chosen on other seeds; without energy nothing is held",
    arms={"naive": arm(), "GPM": arm(gpm(ENERGY)), "GPM, no energy": arm(gpm(0.0))},
    tests=(
        Test("forgetting", "GPM", "naive", relative=0.5),
        Test("accuracy", "GPM", "naive", lower_is_better=False),
    ),
    null=("GPM, no energy", "naive"),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
