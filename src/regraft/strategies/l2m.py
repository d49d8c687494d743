"""L2M: a pool of low-rank modulations for a frozen, pretrained transformer; each input finds its own.

Paper: "Learning to Modulate pre-trained Models in RL" Schmied et al. 2023. https://arxiv.org/abs/2306.14884
Tags:  low rank, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.trainables.modulation_pool import modulation_pool
from regraft.recipes.strategy import Strategy, method


@method(tune={"r": (8, 2)})
def l2m(*, size: int = 30, r: int = 8, pull: float = 0.5, query: str = "", known: bool = False) -> Strategy:
    """`known`: the first task is what the network was pretrained on."""
    pool = modulation_pool(size, r, 2.0 * r, query=query, known=known)
    return Strategy(Plan(losses=(Weighted(pool, pull),), trainables=(pool,)))
