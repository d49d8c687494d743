"""Learning without forgetting: on the new rows, the classes known before are answered as they were.

Paper:   "Learning without Forgetting" Li and Hoiem 2016. https://arxiv.org/abs/1606.09282
Paper:   "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Differs: KD has the factor T², so that strength 1 is 4 of the paper's; a new head is not trained by itself first.
Tags:    distillation, exemplar-free, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.losses.distil import distil
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (0.3, 1.0, 3.0, 10.0)}, null={"strength": 0.0})
def lwf(*, strength: float = 1.0, T: float = 2.0) -> Strategy:
    return Strategy(Plan(losses=(Weighted(distil(T=T, classes="known"), strength, on=("new",)),)))
