"""CLR: a frozen convolutional network whose channels every task filters anew.

Paper: "CLR: Channel-wise Lightweight Reprogramming for Continual Learning" Ge et al. 2023. https://arxiv.org/abs/2307.11386
Tags:  parameter isolation, exemplar-free, task-incremental
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.trainables.reprogram import reprogram
from regraft.recipes.strategy import Strategy, method


@method()
def clr(*, m: int = 3, given: bool = False) -> Strategy:
    """`given`: the network was trained before the stream; else its first task trains it."""
    return Strategy(Plan(trainables=(reprogram(m, given),)))
