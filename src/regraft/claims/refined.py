"""A schedule refined from one recorded run against the linear decay it was recorded under, on five problems."""

from __future__ import annotations

from regraft.engine.fit import Fitted
from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.gradients.gradient_norms import gradient_norms
from regraft.parts.schedules.linear import linear
from regraft.parts.schedules.refined import refined
from regraft.worlds.problems import PROBLEMS, TUNED_ON, Problem, duel


def by_line(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return problem.train(linear(), lr, seed, meter=meter)[0]


def recording(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    return _record(problem, lr, seed, meter)[0]


def by_refinement(problem: Problem, lr: float, seed: int, meter: Meter | None) -> float:
    memory = _record(problem, lr, seed, meter)[1].memory
    return problem.train(refined(width=0.4), lr, seed, memory=memory, meter=meter)[0]


def _record(problem: Problem, lr: float, seed: int, meter: Meter | None) -> tuple[float, Fitted]:
    return problem.train(linear(), lr, seed, gradients=(gradient_norms(norm=problem.norm),), meter=meter)


claim = Claim(
    says="a refined schedule ends at a loss no higher than linear decay's on at least three of five problems and never "
    "over 2% above it",
    setting="digits by SGD, letters by AdamW, logistic regression on three sets by Adam; 400 updates of 16 rows "
    "(letters: 64); loss on the training rows; each schedule at the best of four rates on each problem",
    arms={
        "refined": duel(by_refinement, by_line),
        "linear": duel(by_line, by_refinement),
        "linear, recorded": duel(recording, by_refinement),
    },
    tests=(
        Test("problems won", "refined", "linear", lower_is_better=False),
        *(Test(f"loss on {p.name}", "refined", "linear", relative=-0.02) for p in PROBLEMS),
    ),
    budget="rows",
    unequal={"refined": "the run it is made from comes before; the run that is judged is as long as the others"},
    null=("linear, recorded", "linear"),
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=TUNED_ON,
)
