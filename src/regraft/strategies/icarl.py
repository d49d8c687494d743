"""iCaRL: exemplars, a sigmoid a class that is taught old classes by its older self, and the nearest mean of exemplars.

`beside`: exemplars for each new row; none: as many as there are in the union of both.

Paper: "iCaRL: Incremental Classifier and Representation Learning" Rebuffi et al. 2017. https://arxiv.org/abs/1611.07725
Claim: with few rows in memory it is more accurate than plain replay by 5 points and forgets at most half as much.
Tags:  replay, distillation, class-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.nearest_mean import nearest_mean
from regraft.parts.losses.one_vs_rest import one_vs_rest
from regraft.parts.samplers.exemplars import exemplars
from regraft.parts.schedules.as_union import as_union
from regraft.recipes.strategy import Strategy, method


@method()
def icarl(*, memory: int = 200, beside: float | None = None) -> Strategy:
    kept = Feed("memory", exemplars(memory), beside=as_union() if beside is None else beside)
    return Strategy(
        Plan(feeds=(kept,)), labels=(Weighted(one_vs_rest()),), release=(nearest_mean("cosine", source="exemplars"),)
    )
