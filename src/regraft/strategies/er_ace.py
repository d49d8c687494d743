"""ER-ACE: replay, where new rows do not push the classes down that were learned before.

Paper: "New Insights on Reducing Abrupt Representation Change in Online Continual Learning" Caccia et al. 2022.
       https://arxiv.org/abs/2104.05025
Tags:  replay, online, class-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.asymmetric import asymmetric
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, method


@method()
def er_ace(*, memory: int = 200, beside: float = 1.0) -> Strategy:
    kept = Feed("memory", reservoir(memory), beside=beside)
    labels = (Weighted(asymmetric(), 1.0, on=("new",)), Weighted(nll(), 1.0, on=("memory",)))
    return Strategy(Plan(feeds=(kept,)), labels)
