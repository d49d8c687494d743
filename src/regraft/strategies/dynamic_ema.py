"""Dynamic EMA: each task ends with a slow average of its weights, each tensor at its own pace.

Paper: "Large Continual Instruction Assistant" Qiao et al. 2024. https://arxiv.org/abs/2410.10868
Tags:  weight averaging, exemplar-free, task-free, task-incremental, domain-incremental, continual fine-tuning,
       language model
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.gradients.dema import dema
from regraft.recipes.strategy import Strategy, method


@method(tune={"fallback": (0.1, 0.01, 0.003)}, null={"fallback": 1.0, "fixed": True})
def dynamic_ema(*, fallback: float = 0.01, fixed: bool = False) -> Strategy:
    return Strategy(Plan(gradients=(dema(fallback=fallback, fixed=fixed),)))
