"""DST: every task has a sparse network of its own inside one, rewired as it learns.

Paper: "Continual Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates" Yildirim et
       al. 2023. https://arxiv.org/abs/2308.14831
Tags:  parameter isolation, sparse, exemplar-free, task-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Plan
from regraft.parts.trainables.dynamic_sparse import dynamic_sparse
from regraft.recipes.strategy import Strategy, method


@method(tune={"density": (0.2, 0.1, 0.05), "init": ("erk", "uniform")})
def dst(
    *,
    density: float = 0.2,
    init: Literal["uniform", "erk"] = "erk",
    grow: Literal["random", "unfired", "gradient", "momentum"] = "random",
    drop: float = 0.5,
    every: int = 100,
) -> Strategy:
    sparse = dynamic_sparse(density, init, grow, drop, every)
    return Strategy(Plan(trainables=(sparse,), gradients=(sparse,)))
