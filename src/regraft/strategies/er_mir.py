"""ER-MIR: replay of the rows that the coming step would harm most.

Paper: "Online Continual Learning with Maximally Interfered Retrieval" Aljundi et al. 2019.
       https://arxiv.org/abs/1908.04742
Tags:  replay, task-free, online, class-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.mir import mir
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, method


@method(tune={"candidates": (2.0, 5.0)}, null={"beside": 0.0})
def er_mir(*, memory: int = 200, beside: float = 1.0, candidates: float = 5.0, alpha: float = 0.1) -> Strategy:
    sampler = mir(reservoir(memory), nll(), candidates, alpha)
    return Strategy(Plan(feeds=(Feed("memory", sampler, beside=beside),)))
