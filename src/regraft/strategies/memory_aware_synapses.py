"""Memory aware synapses (MAS): weights that the outputs are sensitive to are held where they were.

Paper:   "Memory Aware Synapses: Learning what (not) to forget" Aljundi et al. 2018. https://arxiv.org/abs/1711.09601
Differs: the authors' strength is 1.
Tags:    weight regularisation, exemplar-free, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.mas import mas
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (0.01, 0.03, 0.1, 0.3)}, null={"strength": 0.0})
def memory_aware_synapses(*, strength: float = 0.1) -> Strategy:
    return Strategy(Plan(penalties=(Weighted(mas(), strength),)))
