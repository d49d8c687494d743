"""Half of the matrices against all of them, over tables that a model learns after its facts."""

from __future__ import annotations

from regraft.core.parts import Trainable
from regraft.core.plan import Plan
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.trainables.half import half
from regraft.parts.trainables.lora import lora
from regraft.recipes.strategy import Strategy
from regraft.worlds.skills import lived


def arm(*trainables: Trainable) -> Arm:
    return lambda meter, seed: lived(Strategy(Plan(trainables=trainables)), meter, seed)[1]


claim = Claim(
    says="after three new tables a language model knows at least 5 points more of its facts if for each another random "
    "half of its matrices moves, and has learned them as well, within 2 points",
    setting="80 facts and copying, then 3 tables of 64 entries, 200 AdamW steps of 32 each; embeddings and norms are "
    "held, and move in the arm `everything`; Llama of 4 layers, width 48",
    arms={
        "all matrices": arm(half(ratio=1.0, rest=())),
        "half": arm(half(rest=())),
        "everything": arm(),
        "LoRA": arm(lora(8)),
    },
    tests=(
        Test("knowledge", "half", "all matrices", by=0.05, lower_is_better=False),
        Test("knowledge", "half", "everything", by=0.05, lower_is_better=False),
        Test("learned", "half", "all matrices", by=-0.02, lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101, 102, 103),
)
