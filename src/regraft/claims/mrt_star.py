"""Ways on of most progress imitated, against right answers imitated, after the warm-up of the claim of MRT."""

from __future__ import annotations

from regraft.claims.mrt import AFTER, EACH, ENDS, FORCE, STEPS, arm
from regraft.evidence.claims import Claim, Test
from regraft.repairs.mrt_star import mrt_star
from regraft.repairs.self_training import self_training

ROUNDS = 3

claim = Claim(
    says="after as many updates the area under accuracy by budget is at least 3% higher than where right answers are "
    "imitated, and the first right try comes after at least 10% fewer tokens; with the whole budget no more than 1.5 "
    "points fewer answers are right",
    setting=f"as in the claim of MRT: {EACH} questions with one right start of 4, half of the wrong tries of the "
    f"warm-up made twice; 8 ways on, or answers, to a question in each of {ROUNDS} rounds, {STEPS} updates of 128 rows",
    arms={
        "right answers": arm(self_training(warm_up=0.0, rounds=ROUNDS, anew=False)),
        "most progress": arm(mrt_star(ends=ENDS, force=FORCE, after=AFTER, rounds=ROUNDS)),
    },
    tests=(
        Test("area", "most progress", "right answers", relative=0.03, lower_is_better=False),
        Test("first", "most progress", "right answers", at_most_ratio=0.9),
        Test("right", "most progress", "right answers", by=-1.5, lower_is_better=False),
    ),
    budget="updates",
    calibrated_on=(100, 101),
)
