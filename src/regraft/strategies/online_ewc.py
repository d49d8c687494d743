"""Online EWC: weights that mattered to earlier tasks are held where they were.

Paper: "Overcoming catastrophic forgetting in neural networks" Kirkpatrick et al. 2017. https://arxiv.org/abs/1612.00796
Paper: "Progress & Compress: A scalable framework for continual learning" Schwarz et al. 2018.
       https://arxiv.org/abs/1805.06370
Tags:  weight regularisation, exemplar-free, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.ewc import ewc
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (3.0, 20.0, 200.0, 2000.0)}, null={"strength": 0.0})
def online_ewc(*, strength: float = 20.0, gamma: float = 1.0) -> Strategy:
    return Strategy(Plan(penalties=(Weighted(ewc(gamma=gamma), strength),)))
