"""A-GEM: no step may raise the loss on a small memory, to first order.

Paper: "Efficient Lifelong Learning with A-GEM" Chaudhry et al. 2019. https://arxiv.org/abs/1812.00420
Tags:  replay, gradient projection, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.parts.gradients.agem import agem
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy, method


@method(null={"memory": 0})
def a_gem(*, memory: int = 200, rows: int = 256) -> Strategy:
    return Strategy(Plan(gradients=(agem(nll(), memory, rows),)))
