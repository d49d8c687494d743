"""WA, weight aligning: exemplars, distillation that counts as much as classes are known, and new classes scaled to old.

    loss = (1 - lambda) CE + lambda KD        lambda = C_old / (C_old + C_new)

`beside`: exemplars for each new row; none: as many as there are in the union of both.

Paper:   "Maintaining Discrimination and Fairness in Class Incremental Learning" Zhao et al. 2020. https://arxiv.org/abs/1911.07053
Differs: KD has the factor T² that keeps its gradient at the labels' scale.
Tags:    replay, distillation, class-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.weight_aligning import weight_aligning
from regraft.parts.gradients.non_negative import non_negative
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.exemplars import exemplars
from regraft.parts.schedules.as_union import as_union
from regraft.parts.schedules.known_share import known_share
from regraft.recipes.strategy import Strategy, method


@method()
def wa(*, memory: int = 200, beside: float | None = None, T: float = 2.0) -> Strategy:
    kept = Feed("memory", exemplars(memory), beside=as_union() if beside is None else beside)
    answers = Weighted(distil(T=T, classes="known"), known_share("old"))
    labels = (Weighted(nll(), known_share("new")),)
    plan = Plan(feeds=(kept,), losses=(answers,), gradients=(non_negative(),))
    return Strategy(plan, labels, after=(weight_aligning(),))
