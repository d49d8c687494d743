"""Steps that may not raise the memory's loss, over digits whose pixels are reordered."""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.gradients.agem import agem
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import MEMORY, lived, memory


def projected(meter: Meter, seed: int) -> dict[str, float]:
    return lived(Strategy(Plan(gradients=(agem(nll(), MEMORY),))), meter, seed, "inputs")


claim = Claim(
    says="when the inputs change and the classes stay, it forgets less than plain training",
    setting="digits in 5 orders of their pixels, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 rows a "
    "batch, 200 rows of memory; plain replay for comparison",
    arms={
        "naive": lambda meter, seed: lived(Strategy(), meter, seed, "inputs"),
        "A-GEM": projected,
        "replay": lambda meter, seed: lived(Strategy(memory()), meter, seed, "inputs"),
    },
    tests=(
        Test("forgetting", "A-GEM", "naive"),
        Test("accuracy", "A-GEM", "naive", lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
)
