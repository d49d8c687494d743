"""HFT: every task moves another random half of the matrices.

Paper: "HFT: Half Fine-Tuning for Large Language Models" Hui et al. 2024. https://arxiv.org/abs/2404.18466
Tags:  parameter isolation, exemplar-free, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Plan
from regraft.parts.trainables.half import half
from regraft.recipes.strategy import Strategy, method


@method(null={"ratio": 1.0})
def hft(*, ratio: float = 0.5, by: Literal["category", "layer", "model"] = "category") -> Strategy:
    return Strategy(Plan(trainables=(half(ratio, by),)))
