"""What is forgotten in form and what in knowledge, over instruction families with answer forms of their own."""

from __future__ import annotations

from regraft.core.plan import Feed, Plan
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.metrics.superficial_forgetting import forgetting_of
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy
from regraft.strategies.sefe import sefe
from regraft.worlds.instructions import lived

R, X, M, STRENGTH = 32, 0.2, 0.1, 100.0
REPLAY = Strategy(Plan(feeds=(Feed("memory", reservoir(20), beside=0.05),)))


def arm(X: float = 0.0, strength: float = 0.0, beside: Strategy | None = None) -> Arm:
    strategy = sefe(strength=strength, M=M, r=R) + (beside or Strategy())

    def run(meter: Meter, seed: int) -> dict[str, float]:
        scores = lived(strategy, meter, seed, X=X)[1]
        asked = scores["answered"]
        return {
            **forgetting_of({"asked": asked, "known": scores["knowledge"]}),
            "lost of the first": float(asked[1, 0] - asked[-1, 0]),
            "learned": float(asked[1:].diagonal().mean()),
        }

    return run


def nothing(meter: Meter, seed: int) -> dict[str, float]:
    return {"lost of the first": 0.0, "superficial": 0.0}


claim = Claim(
    says="a model that learns families of instructions one after the other answers the first in the wrong form; rows "
    "in other styles take away 70% of what is lost in form, and RegLoRA 30% of what is then lost in knowledge, while "
    "new families are learned as well, within 3 points",
    setting="five families of 20 facts, each with its own form of answer, which a Llama of 2 layers, width 48, knew "
    "from other facts; LoRA of rank 32, folded in after each, 100 AdamW steps of 32 rows; a fifth of the rows in other "
    "styles, made by templates; M = 0.1, strength 100, chosen on seeds 100 to 102",
    arms={
        "sequential": arm(),
        "styles": arm(X),
        "RegLoRA": arm(0.0, STRENGTH),
        "both": arm(X, STRENGTH),
        "replay": arm(beside=REPLAY),
        "nothing lost": nothing,
    },
    tests=(
        Test("lost of the first", "nothing lost", "sequential", by=0.4),
        Test("superficial", "nothing lost", "sequential"),
        Test("superficial", "styles", "sequential", at_most_ratio=0.3),
        Test("essential", "both", "styles", at_most_ratio=0.7),
        Test("learned", "both", "styles", by=-0.03, lower_is_better=False),
    ),
    budget="updates",
    unequal={"nothing lost": "a number, not a run"},
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101, 102),
)
