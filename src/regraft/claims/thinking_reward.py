"""A judge of steps that is misled on some questions: no judge, one that is added as it is, trusted, and faded out."""

from __future__ import annotations

import math
import statistics
from typing import Any

from regraft.core.define import transform
from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.thinking_reward import thinking_reward
from regraft.worlds import chains, thinking

STEPS, LR, EACH, LEARNED = 30, 3e-4, 200, (4, 5, 6)
"""At a rate of 1e-3 reinforcement alone collapses on some seeds."""
T = STEPS / 3.2
"""In the end 4% of alpha is left."""


def arm(judged: thinking_reward | None = None) -> Arm:
    """The scores, and how often the judge is distrusted in questions that it is misled about, and trusted in others."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w, below = chains.workshop(seed, LEARNED, EACH, STEPS, meter, lr=LR), {True: list[bool](), False: list[bool]()}

        @transform
        def heard(rows: Rows, ctx: Context) -> Rows:
            for gamma, row in zip(rows["trust"].tolist(), rows["row"].tolist(), strict=True):
                if not math.isnan(gamma):
                    below[row % 10 < thinking.MISLED].append(gamma < 1)
            return rows

        then: list[Transform] = [] if judged is None else [judged, heard()]
        with one_thread():
            w.fit(w.reinforced(then=[*then, group_advantage()]))
        found = thinking.scores(w.model, seed, LEARNED)
        if judged is not None:
            misled, clean = (100 * statistics.fmean(below[each]) for each in (True, False))
            found |= {"distrusted where misled": misled, "trusted where not": 100 - clean}
        return found

    return run


def judge(**knobs: Any) -> thinking_reward:
    return thinking_reward(thinking.steps_judge(), **knobs)


def asked(meter: Meter, seed: int) -> dict[str, float]:
    return {"distrusted where misled": 80.0, "trusted where not": 80.0}


claim = Claim(
    says="trusted and faded, the judge makes at least 2 points more answers right than outcomes alone, and at least 10 "
    "points more of the right ones valid in every step; added as it is it makes no more right than outcomes, and its "
    "own score is higher; it is distrusted in 80% of the groups where it is misled, and trusted in 80% of the others",
    setting="chains of arithmetic modulo 10 of 4 to 6 steps of which the answer is checked, a Llama of 0.1M weights; a "
    f"judge of steps that prefers long wrong chains in 3 of 10 questions; {STEPS} updates of 128 rows, 8 answers to a "
    "question; alpha 0.3, of which 4% is left in the end",
    arms={
        "outcome": arm(),
        "judge": arm(judge(trusted=False, T=math.inf)),
        "judge, trusted": arm(judge(T=math.inf)),
        "judge, trusted and faded": arm(judge(T=T)),
        "asked": asked,
    },
    tests=(
        Test("right", "judge, trusted and faded", "outcome", by=2.0, lower_is_better=False),
        Test("valid", "judge, trusted and faded", "outcome", by=10.0, lower_is_better=False),
        Test("right", "outcome", "judge", lower_is_better=False),
        Test("judged", "judge", "outcome", lower_is_better=False),
        Test("distrusted where misled", "judge, trusted and faded", "asked", lower_is_better=False),
        Test("trusted where not", "judge, trusted and faded", "asked", lower_is_better=False),
    ),
    budget="updates",
    unequal={"asked": "what the claim asks for; nothing is learned"},
    calibrated_on=(100,),
)
