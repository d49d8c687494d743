"""Answers that are remembered beside labels: DER++ and LwF, over digits two at a time."""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import Stream, lived, memory

ALPHA, LWF = 0.3, 1.0
LABELS = (Weighted(nll(), 1.0, ("new",)), Weighted(nll(), 1.0, ("memory",)))


def der(alpha: float) -> Arm:
    """DER++: labels and answers of the memory; at 0 it is ER."""
    answers = Plan(losses=(Weighted(distil(of="logits", by="mse"), alpha, ("memory",)),))
    return lambda meter, seed: lived(Strategy(memory(keep=("logits",)) + answers, LABELS), meter, seed)


def er(meter: Meter, seed: int) -> dict[str, float]:
    return lived(Strategy(memory(keep=("logits",)), LABELS), meter, seed)


def without_memory(strategy: Strategy, stream: Stream = "classes") -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, stream)


lwf = Strategy(Plan(losses=(Weighted(distil(classes="known"), LWF),)))

claim = Claim(
    says="answers remembered beside labels (DER++) raise the accuracy of replay and lower its forgetting",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch "
    "and 32 of 200 in memory; alpha chosen on documents of topics",
    arms={
        "naive": without_memory(Strategy()),
        "LwF": without_memory(lwf),
        "ER": er,
        "DER++": der(ALPHA),
        "DER++, alpha 0": der(0.0),
    },
    tests=(
        Test("accuracy", "DER++", "ER", lower_is_better=False),
        Test("forgetting", "DER++", "ER"),
        Test("accuracy", "DER++", "naive", by=0.2, lower_is_better=False),
    ),
    budget="updates",
    null=("DER++, alpha 0", "ER"),
    seeds=(0, 1, 2, 3, 4),
)
