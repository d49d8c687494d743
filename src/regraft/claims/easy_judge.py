"""A judge of steps taught on easy questions: it chooses among answers to hard ones, and it rewards them."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.numerics.steps import By, Steps, judged
from regraft.numerics.trying import in_blocks
from regraft.parts.losses.judgement import judgement
from regraft.parts.metrics.voting import counted
from regraft.parts.transforms.step_judge import step_judge
from regraft.recipes.repairing import Repair, Workshop, repair
from regraft.repairs.easy_judge import easy_judge
from regraft.worlds import chains
from regraft.worlds.chain_judges import ENDS, answers, context, cut, known, of_answers, of_steps, taught

EASY, HARD = (2, 3), (5, 6)
STEPS, LR, EACH = 200, 3e-4, 200
ANSWERED, COPIES, JUDGE_LR = 250, 8, 3e-3
ASKED, TRIES = 90, 16


def chosen(what: str, told: Callable[[Rows, Steps], Tensor], by: By) -> Arm:
    """How many hard questions are answered rightly by one of 16 answers of the base, in percent: that which a judge
    taught on easy questions chooses, by `what` of the metric `voting`."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        rows = in_blocks(answers(seed, EASY, ANSWERED, COPIES, 2000))
        rows = rows.having(row=torch.arange(rows.count))
        judge = taught(seed, judged(rows, told(rows, cut(rows))), judgement(), STEPS, meter, lr=JUDGE_LR)
        tests = answers(seed, HARD, ASKED, TRIES, 3000)
        found = known(judge, step_judge(ends=ENDS, by=by), tests, seed)
        return {"chosen": found[what]}

    return run


def learned(how: Repair) -> Arm:
    """What is right of hard questions by what is likeliest, in percent."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w = chains.workshop(seed, (*EASY, *HARD), EACH, STEPS, meter, lr=LR, shown=EASY)
        with one_thread():
            how(w)
        return {"hard": 100 * statistics.fmean(chains.rates(w.model, seed, difficulties=HARD).values())}

    return run


@repair
def easy_shown(w: Workshop) -> None:
    """Imitation of the demonstrations that there are: those of easy questions."""
    w.fit(w.imitated())


def most(meter: Meter, seed: int) -> dict[str, float]:
    """The answer that most of the 16 give."""
    found = answers(seed, HARD, ASKED, TRIES, 3000)
    numbers = counted(found, context(chains.base(seed), seed), marker=chains.ANSWER).numbers
    return {"chosen": 100 * numbers["majority"]}


claim = Claim(
    says="of hard questions a vote weighted by a judge of steps that was taught on easy ones answers at least 5 points "
    "more than the vote of the majority, and no fewer than the best by a judge of whole answers; reinforced by it a "
    "model answers at least 5 points more of them than after imitation of easy demonstrations",
    setting="chains of arithmetic modulo 10, easy ones of 2 and 3 steps, hard ones of 5 and 6, a Llama of 0.1M "
    f"weights; {STEPS} updates; no label of a hard question",
    arms={
        "judge of steps": chosen("weighted", of_steps, "min"),
        "judge of answers": chosen("best", of_answers, "last"),
        "majority": most,
        "easy_judge": learned(easy_judge(easy=tuple(f"{n} steps" for n in EASY), ends=ENDS)),
        "imitation": learned(easy_shown()),
    },
    tests=(
        Test("chosen", "judge of steps", "majority", by=5.0, lower_is_better=False),
        Test("chosen", "judge of steps", "judge of answers", lower_is_better=False),
        Test("hard", "easy_judge", "imitation", by=5.0, lower_is_better=False),
    ),
    budget="updates",
    unequal={"majority": "nothing is learned"},
    calibrated_on=(100, 101),
)
