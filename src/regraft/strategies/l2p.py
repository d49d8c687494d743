"""L2P: a pool of prompts for a frozen, pretrained transformer; each input finds its own.

Paper: "Learning to Prompt for Continual Learning" Wang et al. 2022. https://arxiv.org/abs/2112.08654
Tags:  prompts, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Plan, Weighted
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.trainables.prompt_pool import prompt_pool
from regraft.recipes.strategy import Strategy, method


@method(tune={"pull": (0.5, 0.1, 1.0)})
def l2p(
    *, size: int = 10, N: int = 5, length: int = 5, read: Literal["prompts", "all"] = "prompts", pull: float = 0.5
) -> Strategy:
    pool = prompt_pool(size, N, length, read=read)
    return Strategy(Plan(losses=(Weighted(pool, pull),), trainables=(pool,)), labels=(Weighted(new_classes()),))
