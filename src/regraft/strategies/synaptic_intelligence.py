"""Synaptic intelligence (SI): weights that lowered the loss on their way are held where they ended.

Paper: "Continual Learning Through Synaptic Intelligence" Zenke et al. 2017. https://arxiv.org/abs/1703.04200
Tags:  weight regularisation, exemplar-free, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.si import si
from regraft.recipes.strategy import Strategy, method


@method(tune={"c": (0.1, 1.0, 3.0, 10.0)}, null={"c": 0.0})
def synaptic_intelligence(*, c: float = 1.0, xi: float = 0.1) -> Strategy:
    return Strategy(Plan(penalties=(Weighted(si(xi), c),), gradients=(si(xi),)))
