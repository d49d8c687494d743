"""SLM: increments of low rank for a frozen, pretrained network, found by keys that are learned before them.

Paper: "Scalable Language Model with Generalized Continual Learning" Peng et al. 2024. https://arxiv.org/abs/2404.07470
Tags:  low rank, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from dataclasses import replace

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.jare import jare
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"groups": (4, 1)})
def slm(*, slots: int = 4, top: int = 4, groups: int = 4, r: int = 12, query: str = "", keys: float = 1.0) -> Strategy:
    """`keys`: how long they are learned, as a factor on the length of training."""
    increments = jare(slots, top, groups, r, query=query)
    first = replace(increments, phase="keys")
    retrieval = Plan((Feed("new", shuffled()),), (Weighted(first),), trainables=(first,))
    return Strategy(Plan(trainables=(increments,)), before=(Stage(retrieval, keys),))
