"""Experience replay: a small memory, drawn beside the new rows.

Paper: "On Tiny Episodic Memories in Continual Learning" Chaudhry et al. 2019. https://arxiv.org/abs/1902.10486
Paper: "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Tags:  replay, task-free, online, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, method


@method(null={"beside": 0.0})
def er(*, memory: int = 200, beside: float = 1.0) -> Strategy:
    return Strategy(Plan(feeds=(Feed("memory", reservoir(memory), beside=beside),)))
