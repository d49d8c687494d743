"""Increments found by keys, over rooms in which the same drawings mean other answers."""

from __future__ import annotations

from regraft.claims.modulation_pool import SHARED, arm, each_its_own
from regraft.evidence.claims import Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.strategies.slm import slm

claim = Claim(
    says="new tasks are learned within 5 points of a low-rank change for each, and at most a tenth of what one "
    "low-rank change forgets is forgotten, nobody saying which task a row is of",
    setting="ten curves in rooms with walls and answers of their own: three rooms that a vision transformer of 2 "
    "layers, 64 wide, was pretrained on, then three more, one at a time; the query is read after the first layer, in 4 "
    "groups; AdamW, 20 epochs of 32 rows a batch, and as many for the keys; settings chosen on seed 100",
    arms={
        "naive": arm(Strategy()),
        "one LoRA": arm(SHARED),
        "a LoRA for each": each_its_own,
        "SLM": arm(slm(groups=4, top=2, query="blocks.0")),
    },
    tests=(
        Test("later", "SLM", "a LoRA for each", by=-0.05, lower_is_better=False),
        Test("forgetting", "SLM", "one LoRA", at_most_ratio=0.1),
        Test("accuracy", "SLM", "one LoRA", by=0.25, lower_is_better=False),
    ),
    budget="updates",
    unequal={"a LoRA for each": "it learns the new rooms alone", "SLM": "its keys are trained before its increments"},
    seeds=(0, 1, 2, 3, 4),
)
