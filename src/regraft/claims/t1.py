"""T1 with fewer answers to a question, without its bonus, and with an anchor that stays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from regraft.engine.bits import one_thread
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.numerics.rollout import uncounted
from regraft.numerics.token_loss import entropies_of
from regraft.numerics.trying import in_blocks, tried
from regraft.parts.metrics.accuracy_by_budget import accuracy_by_budget
from regraft.recipes.answered import still
from regraft.recipes.repairing import InMemory, Repair, Workshop
from regraft.repairs.t1 import t1
from regraft.worlds import chains
from regraft.worlds.shown_chains import answered, lesson, whole

STEPS, QUESTIONS, LR, MANY, FEW = 30, 4, 5e-4, 32, 4
DIFFICULTY, EACH, TESTED = 4, 500, 300
"""From a base that errs more often, of which few answers are right, a bonus of entropy leads to noise on some seeds."""
BUDGETS = tuple(range(0, 2 * DIFFICULTY + 1, 2))
ALPHA, M = 0.05, 0.99


def arm(how: Repair, K: int = MANY) -> Arm:
    """In percent: what is solved rightly in every step by what is likeliest; what sampled solutions earn; how far the
    accuracy of the answer alone falls at most from one budget of thinking to the next. `entropy`: of the policy on its
    own answers, in nats a token."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = chains.base(seed)
        learned = replace(lesson(seed, (DIFFICULTY,), EACH), shown=None)
        with one_thread():
            how(Workshop(model, learned, Training(STEPS, K * QUESTIONS, LR, seed=seed, log_every=10), InMemory(meter)))
        questions = chains.fresh(seed, DIFFICULTY, TESTED)
        fresh = whole(questions)
        with one_thread(), uncounted():
            ctx = replace(still(model, torch.Generator().manual_seed(seed)), data={"items": questions})
            answers = tried(model, fresh, learned.judge, chains.ASKING._replace(copies=4), ctx)
            rows = in_blocks(answers)
            entropy = entropies_of(model, rows, chunk=1024).sum() / rows["counts"].sum()
            judged = accuracy_by_budget(
                judge=chains.judge(), budgets=BUDGETS, force=" so", tokens=chains.TOKENS, after=2
            )
            found = judged(model, ctx).numbers
            curve = [found[f"accuracy@{b}"] for b in BUDGETS]
            right = answered(model, fresh)
        falls = [before - after for before, after in pairwise(curve)]
        earned = 100 * float(answers.rewards.mean())
        scores = {"right": right, "earned": earned, "entropy": float(entropy), "fall": 100 * max(0.0, *falls)}
        return scores | {f"after {b} tokens": 100 * p for b, p in zip(BUDGETS, curve, strict=True)}

    return run


def bound(meter: Meter, seed: int) -> dict[str, float]:
    return {"fall": 0.0}


claim = Claim(
    says=f"{MANY} answers to a question end better than {FEW}; the bonus keeps the entropy at 1.5 times what it is "
    "without; an anchor that follows earns no less than one that stays; accuracy does not fall by more than 2 points "
    "from one budget of thinking to a longer one",
    setting=f"chains of {DIFFICULTY} steps of arithmetic modulo 10 of which every step is checked, a Llama of 0.1M "
    f"weights that does about half of the differences and larger numbers rightly; {STEPS} updates of {QUESTIONS} "
    "questions, no demonstrations",
    arms={
        "T1": arm(t1(K=MANY, alpha=ALPHA, m=M)),
        f"{FEW} answers": arm(t1(K=FEW, alpha=ALPHA, m=M), FEW),
        "no bonus": arm(t1(K=MANY, alpha=0.0, m=M)),
        "fixed anchor": arm(t1(K=MANY, alpha=ALPHA, m=1.0)),
        "no fall": bound,
    },
    tests=(
        Test("right", "T1", f"{FEW} answers", lower_is_better=False),
        Test("entropy", "T1", "no bonus", relative=0.5, lower_is_better=False),
        Test("earned", "T1", "fixed anchor", lower_is_better=False),
        Test("fall", "T1", "no fall", by=-2.0),
    ),
    budget="updates",
    unequal={"no fall": "a bound, no run"},
    calibrated_on=(100, 101, 102),
)
