"""MRT after a warm-up that makes most tries twice, against outcomes alone, common beginnings alone, and a penalty."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import uncounted
from regraft.numerics.trying import tried
from regraft.parts.metrics.accuracy_by_budget import accuracy_by_budget
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.length_reward import length_reward
from regraft.parts.transforms.rewards import Reward, rewards
from regraft.recipes.answered import still
from regraft.recipes.repairing import Repair, Workshop, repair
from regraft.repairs.mrt import mrt
from regraft.worlds import trails

STEPS, EACH, TRACES, WARM, TWICE, TESTED = 150, 500, 250, 100, 0.5, 300
FORCE, AFTER, ENDS = trails.ANSWER, 2, (trails.YES, trails.NO)
BUDGETS = tuple(range(0, 37, 4))
PENALTY = 0.2


def wasteful(row: Mapping[str, Any], dice: random.Random) -> str:
    """Tries in random order up to the right one; of those that are wrong every second is made twice."""
    return trails.trace(row, dice.randrange(trails.EASY), dice, again=TWICE)


@repair
def outcome(w: Workshop, *, penalty: float = 0.0) -> None:
    """Reinforcement; `penalty`: for an answer that is as long as there may be, and in proportion for others."""
    shorter = length_reward(trails.TOKENS, cache=trails.TOKENS, most=penalty)
    judged = rewards((Reward("right", w.lesson.judge), Reward("shorter", shorter)))
    w.fit(w.reinforced(then=(judged, group_advantage())))


def arm(how: Repair) -> Arm:
    """What `measured` says after the warm-up and the updates."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = trails.warmed(seed, (trails.EASY,), wasteful, TRACES, updates=WARM)
        with one_thread():
            how(trails.workshop(model, seed, (trails.EASY,), EACH, STEPS, meter))
        return measured(model, seed)

    return run


def measured(model: CausalLM, seed: int) -> dict[str, float]:
    """Of answers that are drawn to fresh questions, in percent: `right` ones, and the `area` under accuracy by budget;
    the tokens up to the end of the first right try (`first`), or of all there may be, and those of the `thinking`."""
    questions = trails.fresh(seed, trails.EASY, TESTED)
    curve = accuracy_by_budget(
        judge=trails.judge(),
        budgets=BUDGETS,
        force=FORCE,
        copies=2,
        tokens=trails.TOKENS,
        after=AFTER,
        temperature=1.0,
        at_once=4096,
    )
    with one_thread(), uncounted():
        ctx = replace(still(model, torch.Generator().manual_seed(seed)), data={"items": questions})
        numbers = curve(model, ctx).numbers
        answers = tried(model, questions, trails.judge(), trails.ASKING._replace(copies=4), ctx)
    rows = answers.rows
    first = [
        trails.found_after(*each) or trails.TOKENS
        for each in zip(rows["prompt"], rows["answer"], rows["written"], strict=True)
    ]
    scores = {"right": 100 * float(answers.rewards.mean()), "area": 100 * numbers["area"]}
    scores |= {"first": statistics.fmean(first), "thinking": numbers["thinking"]}
    return scores | {f"after {b} tokens": 100 * numbers[f"accuracy@{b}"] for b in BUDGETS}


claim = Claim(
    says="after as many updates, the area under accuracy by budget is at least 5% higher than with outcomes alone, and "
    "higher than with common beginnings alone; the first right try comes after at least 20% fewer tokens; with the "
    "whole budget no more than 1 point fewer answers are right",
    setting=f"trails of which one of {trails.EASY} starts is right, a Llama of 0.1M weights; a warm-up on {TRACES} "
    f"traces in which half of the wrong tries are made twice; {STEPS} updates of 128 rows, 8 answers to a question",
    arms={
        "outcome": arm(outcome()),
        "length penalty": arm(outcome(penalty=PENALTY)),
        "common beginnings": arm(mrt(ends=ENDS, force=FORCE, alpha=0.0, after=AFTER)),
        "MRT": arm(mrt(ends=ENDS, force=FORCE, alpha=1.0, after=AFTER)),
    },
    tests=(
        Test("area", "MRT", "outcome", relative=0.05, lower_is_better=False),
        Test("area", "MRT", "common beginnings", lower_is_better=False),
        Test("first", "MRT", "outcome", at_most_ratio=0.8),
        Test("right", "MRT", "outcome", by=-1.0, lower_is_better=False),
    ),
    budget="updates",
    calibrated_on=(100, 101),
)
