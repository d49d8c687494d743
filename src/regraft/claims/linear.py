"""Linear decay against cosine decay on five problems."""

from __future__ import annotations

from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.schedules.constant import constant
from regraft.parts.schedules.linear import linear
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds.problems import TUNED_ON, Problem, duel


def by_line(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return problem.train(linear(), lr, seed, meter=meter)[0]


def by_cosine(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return problem.train(rewarm(warmup=0.0, floor=0.0), lr, seed, meter=meter)[0]


def at_one_rate(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return problem.train(None, lr, seed, meter=meter)[0]


def constantly_at_one(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return problem.train(constant(), lr, seed, meter=meter)[0]


claim = Claim(
    says="linear decay ends at a loss no higher than cosine decay's on at least three of five problems and on average",
    setting="digits by SGD, letters by AdamW, logistic regression on three sets by Adam; 400 updates of 16 rows "
    "(letters: 64); loss on the training rows; each schedule at the best of four rates on each problem",
    arms={
        "linear": duel(by_line, by_cosine),
        "cosine": duel(by_cosine, by_line),
        "no schedule": duel(at_one_rate, by_line, rates_of=constantly_at_one),
        "constant": duel(constantly_at_one, by_line),
    },
    tests=(Test("problems won", "linear", "cosine", lower_is_better=False), Test("mean log loss", "linear", "cosine")),
    budget="rows",
    null=("constant", "no schedule"),
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=TUNED_ON,
)
