"""A judge of steps, taught on easy questions alone, is the reward on questions that are too hard to be checked.

    imitation   of demonstrations of easy questions                                            a part `warm_up`
    judge       a copy of the model, says of each step of answers to easy questions
                how often K ways on from there are right, of the last what the checker says    a part `taught`
    check       a fifth of the easy questions, which the judge is not taught on
    policy      reinforced on the hard questions, R = min_k p_k of the judge                   the other updates

`easy`: skills whose questions can be checked, the others are hard; none: all are both. Of hard questions neither the
checker nor a demonstration is heard. `by`: how what steps are worth becomes R. A step ends with a token that holds one
of `ends`. The same judge chooses among answers to hard questions by the metric `voting`.

The check: how often a right answer is worth more to the judge than a wrong one. A judge that is under `least` there
would reward noise, so nothing is reinforced. `least=0`: it is not checked.

Paper:   "Easy-to-Hard Generalization: Scalable Alignment Beyond Human Supervision" Sun et al. 2024.
         https://arxiv.org/abs/2403.09472
Needs:   a model that answers some easy questions rightly, in steps; enough updates for the judge.
Differs: what is told of steps comes of trying and not of people, as in Math-Shepherd; steps and answer are told to one
         judge, the authors' OPRM. The group-relative policy gradient is in the place of PPO.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Model
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.numerics.ranking import area
from regraft.numerics.step_values import step_values
from regraft.numerics.steps import By, ends_in, judged, on_places, steps_of
from regraft.numerics.trying import in_blocks
from regraft.parts.losses.judgement import judgement
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.step_judge import step_judge
from regraft.recipes.answered import still
from regraft.recipes.repairing import SHOWN, Workshop, repair

TOLD, HARD = "told", "hard"


@repair
def easy_judge(
    w: Workshop,
    *,
    easy: tuple[str, ...] | None = None,
    ends: tuple[str, ...] = ("\n",),
    by: By = "min",
    warm_up: float = 0.2,
    taught: float = 0.3,
    K: int = 4,
    least: float = 0.7,
) -> None:
    if warm_up < 0 or taught <= 0 or warm_up + taught >= 1 or K < 1 or not 0 <= least <= 1:
        raise RegraftError(
            f"easy_judge: warm_up is {warm_up}, taught {taught}, K {K}, least {least}; the first two must leave "
            "updates for the policy, taught must be over 0, K 1 or more, and least from 0 to 1"
        )
    items, updates = w.lesson.items, w.left
    known = torch.ones(items.count, dtype=torch.bool) if easy is None else w.lesson.of(easy)
    hard = items if easy is None else items.where(~known)
    if not known.any() or not hard:
        raise RegraftError(f"easy_judge: easy={easy} leaves no easy question, or no hard one", do="Name other skills")
    if w.lesson.shown is not None and (shown := w.lesson.demonstrations(known)):
        w.fit(w.imitated(), round(warm_up * updates), data={SHOWN: shown})
    asked = items.where(known)
    fifth = (torch.arange(asked.count) % 5 == 4) & (least > 0)
    taught_on, checked = asked.where(~fifth), asked.where(fifth)
    rows = told(w, taught_on, ends, K)
    w.note(f"judge      taught on {rows.count} answers to {taught_on.count} easy questions")
    judge = copy.deepcopy(w.model)
    plan = Plan((Feed(TOLD, shuffled(TOLD)),), (Weighted(judgement(), on=(TOLD,)),))
    w.fit(plan, max(1, round(taught * updates)), data={TOLD: rows}, model=judge)
    scored = step_judge(ends=ends, by=by)
    knows = told_apart(w, checked, scored, judge) if least else 1.0
    if not knows >= least:
        found = "no right and wrong answers to tell apart" if math.isnan(knows) else f"{knows:.0%} of pairs told apart"
        w.note(f"left       nothing is reinforced, the judge may know too little: {found}, {least:.0%} asked")
        return
    rewarded = (scored, group_advantage())
    w.fit(w.reinforced(shuffled(HARD), then=rewarded), data={HARD: hard}, others={"judge": judge})


def told_apart(w: Workshop, items: Rows, scored: step_judge, judge: Model) -> float:
    """How often the judge finds a right answer to these questions worth more than a wrong one; NaN without both."""
    rows = in_blocks(w.tried(items)) if items else items
    if not rows:
        return math.nan
    ctx = still(w.model, torch.Generator())
    worth = scored(rows, replace(ctx, models={**ctx.models, "judge": judge}))["reward"]
    right = rows["reward"] >= 1
    return area(worth[right], worth[~right])


def told(w: Workshop, easy: Rows, ends: tuple[str, ...], K: int) -> Rows:
    """Answers of the model to easy questions, and what is told of each of their steps."""
    rows = in_blocks(w.tried(easy))
    steps = steps_of(rows, ends_in(w.model, ends))

    def valued() -> dict[str, object]:
        dice = torch.Generator().manual_seed(w.training.seed)
        asking = w.lesson.asking._replace(copies=K)
        return {"Q": step_values(w.model, rows, steps, w.lesson.judge, asking, still(w.model, dice), dice)}

    Q = w.doer.keep({"values": rows.count, "K": K}, valued)["Q"][:, 1:].clamp(0, 1)
    return judged(rows, on_places(Q, steps).masked_fill(~steps.last, torch.nan))
