"""Heads that favour new classes, corrected on rows held out: BiC, over digits two at a time."""

from __future__ import annotations

from dataclasses import replace

from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy
from regraft.strategies.bic import bic
from regraft.strategies.er import er
from regraft.worlds.splits import lived

BESIDE, LR = 0.25, 0.2
corrected = bic(beside=BESIDE)


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, lr=LR)


claim = Claim(
    says="the same model, taught by distillation and exemplars, is more accurate by 5 points where two numbers, "
    "fitted on 20 rows held out, correct its new logits, and more accurate than plain replay",
    setting="digits in 5 tasks of 2 classes, one head; perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch "
    "and 8 of 200 in memory (a fifth), of which 20 are held out; the rate chosen on other seeds",
    arms={
        "ER": arm(er(beside=BESIDE)),
        "KD": arm(replace(corrected, after=())),
        "BiC": arm(corrected),
    },
    tests=(
        Test("accuracy", "BiC", "KD", by=0.05, lower_is_better=False),
        Test("accuracy", "BiC", "ER", lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
)
