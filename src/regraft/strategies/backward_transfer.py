"""CUBER: steps may change what a layer answers to earlier tasks where the task at hand pulls it the same way.

Paper: "Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer" Lin et al. 2022.
       https://arxiv.org/abs/2211.00789
Tags:  gradient projection, exemplar-free, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.gradients.cuber import cuber
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy, method


@method(tune={"energy": (0.9, 0.95, 0.99), "hold": (0.1, 0.5)}, null={"energy": 0.0})
def backward_transfer(*, energy: float = 0.97, hold: float = 0.5) -> Strategy:
    return Strategy(Plan(gradients=(cuber(nll(), energy, hold=hold),)))
