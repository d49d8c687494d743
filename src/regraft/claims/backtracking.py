"""How many wrong branches warm-up traces should show before reinforcement, by how large the search is.

    traces with b wrong tries, then the right one and the answer        b in {0, 1, 3}, 4 starts (easy) or 8 (hard)
    wrong answers: one more wrong try in place of the right one, which is said to be right, and is answered
    then reinforcement by the checker alone; cold: without a warm-up

`earned` is the mean reward over all updates, the area under the curve of learning; `best b` is that with the highest.

Paper: "How Much Backtracking is Enough? Exploring the Interplay of SFT and RL in Enhancing LLM Reasoning"
       Cai et al. 2025. https://arxiv.org/abs/2505.24273
Claim: the best b is no smaller where the search is larger; there, traces with a wrong branch end at least 3 points
       better than those without; whether their answers are right changes that by no more than 3 points.
Differs: eight tasks of three billion weights in the paper, one small search in two sizes here; no shuffled traces. Here
       wrong answers are believed: of traces whose last try is told to fail, and which answer it all the same, one of
       two seeds that were tried ended at 51 after 100 updates, where right answers end at 100.
Tags:  reinforcement learning, demonstrations, diagnostic, language model
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from functools import cache
from typing import Any

from regraft.core.define import transform
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.worlds import trails

BRANCHES, TRACES, WARM, STEPS, EACH = (0, 1, 3), 200, 60, 100, 500
SIZES = {"easy": trails.EASY, "hard": trails.HARD}


def believed(trace: str) -> str:
    """What is answered is said to be right."""
    return trace.replace(f"{trails.NO} {trails.ANSWER}", f"{trails.YES} {trails.ANSWER}")


def warmed(seed: int, size: int, b: int, right: bool) -> CausalLM:
    def shown(row: Mapping[str, Any], dice: random.Random) -> str:
        return believed(trails.trace(row, b, dice, right=right))

    return trails.warmed(seed, (size,), shown, TRACES, updates=WARM)


@cache
def lived(size: int, b: int | None, right: bool, seed: int) -> tuple[Meter, dict[str, float]]:
    """What was spent, and the scores."""
    meter, rewards = Meter(), list[float]()

    @transform
    def heard(rows: Rows, ctx: Context) -> Rows:
        rewards.append(float(rows["reward"].mean()))
        return rows

    model = trails.base(seed) if b is None else warmed(seed, size, b, right)
    w = trails.workshop(model, seed, (size,), EACH, STEPS, meter)
    before = trails.scores(model, seed, size)["right"]
    with one_thread():
        w.fit(w.reinforced(then=[heard(), group_advantage()]))
    earned = 100 * statistics.fmean(rewards)
    return meter, {"before": before, "earned": earned, **trails.scores(w.model, seed, size)}


def arm(size: int, b: int | None, *, right: bool = True) -> Arm:
    """In percent: what is right of what is likeliest after fresh questions, before reinforcement and after it, and what
    was `earned` in between; the `tries` in the end. `b`: none: no warm-up."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        spent, scores = lived(size, b, right, seed)
        meter.add(rows=spent.rows, tokens=spent.tokens, updates=spent.updates, forwards=spent.forwards)
        return scores

    return run


def best(size: int) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        return {"best b": float(max(BRANCHES, key=lambda b: lived(size, b, True, seed)[1]["earned"]))}

    return run


claim = Claim(
    says="the best number of wrong branches is no smaller where the search is larger; there, traces with one or three "
    "of them end at least 3 points better than those without; with wrong answers they end within 3 points of those "
    "with right ones",
    setting=f"trails of which one of {trails.EASY} starts is right (easy), or one of {trails.HARD} (hard), a Llama of "
    f"0.1M weights that tries at random; a warm-up on {TRACES} traces, {STEPS} updates of 128 rows",
    arms={
        **{f"{name}, b = {b}": arm(size, b) for name, size in SIZES.items() for b in BRANCHES},
        "hard, b = 3, wrong answers": arm(trails.HARD, 3, right=False),
        "hard, cold": arm(trails.HARD, None),
        **{f"{name}, best": best(size) for name, size in SIZES.items()},
    },
    tests=(
        Test("best b", "hard, best", "easy, best", by=-0.5, lower_is_better=False),
        Test("right", "hard, b = 1", "hard, b = 0", by=3.0, lower_is_better=False),
        Test("right", "hard, b = 3", "hard, b = 0", by=3.0, lower_is_better=False),
        Test("right", "hard, b = 3, wrong answers", "hard, b = 3", by=-3.0, lower_is_better=False),
        Test("right", "hard, b = 3", "hard, b = 3, wrong answers", by=-3.0, lower_is_better=False),
    ),
    budget="updates",
    unequal={f"{name}, best": "the best of the other arms" for name in SIZES},
    calibrated_on=(100, 101),
)
