"""ReLIFT against reinforcement alone and imitation alone, of skills known, done now and then, and never seen."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from regraft.core.parts import Model
from regraft.core.plan import Plan
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Fitted
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import uncounted
from regraft.recipes.repairing import SHOWN, InMemory, Repair
from regraft.repairs.imitation import imitation
from regraft.repairs.reinforcement import reinforcement
from regraft.repairs.relift import relift
from regraft.worlds import operations
from regraft.worlds.repairs import workshop

STEPS, EACH, N = 700, 1500, 32
KNOWN, HABIT, MISSING = ("add", "most"), "take", "times"
SKILLS = (*KNOWN, HABIT, MISSING)


class Counting(InMemory):
    """Also counts the demonstrations that were used, each once."""

    used = 0

    def fit(
        self, model: CausalLM, plan: Plan, data: Mapping[str, Rows], training: Training, others: Mapping[str, Model]
    ) -> Fitted:
        found = super().fit(model, plan, data, training, others)
        self.used += int(found.seen[SHOWN].sum()) if SHOWN in found.seen else 0
        return found


def arm(how: Repair) -> Arm:
    """The rates in percent, and how many demonstrations were used."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w = workshop(seed, SKILLS, EACH, STEPS, meter)
        w.doer = doer = Counting(meter)
        with one_thread():
            how(w)
            with uncounted():
                rates = operations.rates(w.model, seed, skills=SKILLS)
        return {
            "known": 100 * statistics.fmean(rates[skill] for skill in KNOWN),
            "habit": 100 * rates[HABIT],
            "missing": 100 * rates[MISSING],
            "demonstrations": doer.used,
        }

    return run


claim = Claim(
    says="in as many updates the skill that the base never shows is at least 30 points better than after reinforcement "
    "alone, what was known no more than 2 points worse than after imitation alone, with at most half of its "
    "demonstrations",
    setting=f"tagged arithmetic with planted gaps, a Llama of 0.1M weights; {STEPS} updates of 128 rows, 8 answers to "
    "a question: of two skills that it knows, one that it does now and then, and one that it never saw, "
    f"{EACH:,} questions of each and a demonstration of every one; N = {N}, twice what a step of reinforcement asks",
    arms={"ReLIFT": arm(relift(N=N)), "reinforcement": arm(reinforcement()), "imitation": arm(imitation())},
    tests=(
        Test("missing", "ReLIFT", "reinforcement", by=30.0, lower_is_better=False),
        Test("known", "ReLIFT", "imitation", by=-2.0, lower_is_better=False),
        Test("demonstrations", "ReLIFT", "imitation", at_most_ratio=0.5),
    ),
    budget="updates",
    calibrated_on=(100, 101),
)
