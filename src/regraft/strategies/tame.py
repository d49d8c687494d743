"""TAME: an expert for every task, opened when the loss says that the data has changed; a selector routes tests.

Paper: "TAME: Task Agnostic Continual Learning using Multiple Experts" Zhu et al. 2024. https://arxiv.org/abs/2210.03869
Claim: over tasks that nobody announces, one of which comes back, it opens one expert a task and returns to the one that
       it has, and is more accurate over all of them than one network and than EWC that is told the boundaries.
Tags:  mixture of experts, task-free, online, class-incremental, domain-incremental
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.trainables.experts import experts
from regraft.recipes.strategy import Strategy, method


@method(null={"most": 1, "bounded": False})
def tame(
    *, memory: int = 500, most: int = 8, a: float = 0.2, window: int = 100, k: float = 3.0, bounded: bool = True
) -> Strategy:
    return Strategy(Plan(trainables=(experts(most, a, window, k, size=memory, bounded=bounded),)))
