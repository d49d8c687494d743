"""Judges of chains of arithmetic: answers that the base gives, what is told of their steps, and how well judges know.

A judge is a copy of the base, taught on answers of the base; a step is right that comes to what it should.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import Context, Model, Transform
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.ranking import area
from regraft.numerics.rollout import uncounted
from regraft.numerics.steps import Steps, at_ends, ends_in, on_places, steps_of
from regraft.numerics.trying import Tried, in_blocks, tried
from regraft.parts.metrics.voting import counted
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.answered import still
from regraft.worlds import chains

ENDS = (chains.STEP,)
BATCH, LR = 64, 1e-3


def context(student: Model, seed: int, **models: Model) -> Context:
    """What a transform of answers is called with: the base is `before`."""
    ctx = still(student, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    return replace(ctx, models={"student": student, "before": student, **models})


@cache
def answers(seed: int, difficulties: tuple[int, ...], each: int, copies: int, first: int) -> Tried:
    """What the base answers to so many questions of each difficulty; `first`: the seed of the questions, beside the
    run's own."""
    rows = [row for difficulty in difficulties for row in chains.items(difficulty, each, first + seed)]
    student = chains.base(seed)
    asking = chains.ASKING._replace(copies=copies)
    with one_thread(), uncounted():
        return tried(student, chains.asked(rows), chains.judge(), asking, context(student, seed + first))


def cut(rows: Rows) -> Steps:
    return steps_of(rows, ends_in(chains.base(0), ENDS))


def first_wrong(rows: Rows, steps: Steps) -> Tensor:
    """The first wrong step of each answer, int64 [rows]; the number of its steps, where none that it has is wrong."""
    found = [chains.first_wrong(*pair) for pair in zip(rows["prompt"], rows["written"], strict=True)]
    most = torch.tensor([chains.MOST + 1 if each is None else each for each in found])
    return most.minimum(steps.counts)


def of_steps(rows: Rows, steps: Steps) -> Tensor:
    """What is told of an answer's steps: right before the first wrong one, which is wrong; nothing after it. As
    `judged` takes it, [rows, places]."""
    step, wrong = torch.arange(steps.most), first_wrong(rows, steps)[:, None]
    told = torch.where(step == wrong, 0.0, torch.where(step < wrong, 1.0, torch.nan)).expand(rows.count, -1)
    return told_at(told, steps)


def of_answers(rows: Rows, steps: Steps, *, everywhere: bool = False) -> Tensor:
    """Whether the answer is right, told after it, or after each of its steps, [rows, places]."""
    step = torch.arange(steps.most)
    here = steps.there if everywhere else step == steps.counts[:, None] - 1
    right: Tensor = (rows["reward"] >= 1).float()
    return told_at(torch.where(here, right[:, None], torch.nan), steps)


def told_at(values: Tensor, steps: Steps) -> Tensor:
    """Values of steps at their last places, NaN elsewhere, [rows, places]."""
    return on_places(values, steps).masked_fill(~steps.last, torch.nan)


def taught(seed: int, rows: Rows, loss: Any, steps: int, meter: Meter | None, *, lr: float = LR) -> CausalLM:
    """A copy of the base, taught by a loss on these rows."""
    judge = chains.base(seed)
    plan = Plan((Feed("new", shuffled()),), (Weighted(loss),))
    with one_thread():
        fit(judge, plan, {"new": rows}, Training(steps, BATCH, lr, seed=seed, log_every=steps), meter=meter)
    return judge


def known(judge: CausalLM, by: Transform, tests: Tried, seed: int) -> dict[str, float]:
    """How well a judge chooses among answers, in percent, and how well it tells a first wrong step from the right ones
    before it: the area under the curve, 100 where it always does."""
    rows = in_blocks(tests)
    ctx = context(chains.base(seed), seed, judge=judge)
    with one_thread():
        scored = by(rows, ctx)
    numbers = counted(tests, ctx, lambda *_: scored, marker=chains.ANSWER, squashed=bool((scored["reward"] < 0).any()))
    steps = cut(rows)
    wrong, step = first_wrong(rows, steps)[:, None], torch.arange(steps.most)
    p, erred = at_ends(scored["process"], steps), wrong < steps.counts[:, None]
    right, amiss = p[(step < wrong) & erred], p[(step == wrong) & erred]
    found = {name: 100 * value for name, value in numbers.numbers.items()}
    return {**found, "found": 100 * area(right, amiss)}
