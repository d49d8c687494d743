"""Gradient projection memory (GPM): steps off the subspaces that layers read earlier tasks in.

Paper: "Gradient Projection Memory for Continual Learning" Saha et al. 2021. https://arxiv.org/abs/2103.09762
Tags:  gradient projection, exemplar-free, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.gradients.gpm import gpm
from regraft.recipes.strategy import Strategy, method


@method(tune={"energy": (0.9, 0.95, 0.97, 0.99)}, null={"energy": 0.0})
def gradient_projection(*, energy: float = 0.97) -> Strategy:
    return Strategy(Plan(gradients=(gpm(energy),)))
