"""BiC: exemplars, distillation that counts as much as classes are known, and a head corrected on rows held out.

    loss = (1 - lambda) CE + lambda KD        lambda = C_old / (C_old + C_new)

`held`: the part of the memory whose rows no training reads. `beside`: rows of the rest for each new one; none: as many
as there are in the union of both.

Paper:   "Large Scale Incremental Learning" Wu et al. 2019. https://arxiv.org/abs/1905.13260
Differs: KD has the factor T² that keeps its gradient at the labels' scale.
Tags:    replay, distillation, class-incremental
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.bias_correction import bias_correction
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.all_but import all_but
from regraft.parts.samplers.exemplars import exemplars
from regraft.parts.schedules.as_union import as_union
from regraft.parts.schedules.known_share import known_share
from regraft.recipes.strategy import Strategy, method


@method()
def bic(*, memory: int = 200, beside: float | None = None, T: float = 2.0, held: float = 0.1) -> Strategy:
    rows = max(1, round(held * memory))
    if not rows < memory:
        raise RegraftError(f"bic: {rows} of {memory} rows of memory are held out; some must be left", do="Keep more")
    apart = exemplars(rows, "random", adds="before", key="held")
    feeds = (
        Feed("new", all_but(apart)),
        Feed("memory", exemplars(memory - rows, apart=apart), beside=as_union() if beside is None else beside),
    )
    answers = Weighted(distil(T=T, classes="known"), known_share("old"))
    labels = (Weighted(nll(), known_share("new")),)
    return Strategy(Plan(feeds=feeds, losses=(answers,)), labels, after=(bias_correction(),))
