"""Gradient episodic memory (GEM): no step may raise the loss on any earlier task, to first order.

Paper: "Gradient Episodic Memory for Continual Learning" Lopez-Paz and Ranzato 2017. https://arxiv.org/abs/1706.08840
Tags:  replay, gradient projection, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.gradients.gem import gem
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy, method


@method(tune={"gamma": (0.0, 0.5, 1.0)}, null={"memory": 0})
def gradient_episodic_memory(*, memory: int = 200, gamma: float = 0.5) -> Strategy:
    return Strategy(Plan(gradients=(gem(nll(), memory, gamma),)))
