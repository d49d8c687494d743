"""Skills drawn by how much they teach, against all alike, by reinforcement from the same base."""

from __future__ import annotations

from regraft.core.parts import Sampler
from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.samplers.dump import dump
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds import operations
from regraft.worlds.repairs import scores, workshop

STEPS, EACH = 150, 500
SKILLS = tuple(operations.OPERATIONS)


def arm(sampler: Sampler) -> Arm:
    """The scores, and how many answers were written for the skills that the base has as habits, in percent."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        w = workshop(seed, SKILLS, EACH, STEPS, meter)
        with one_thread():
            tally = w.fit(w.reinforced(sampler)).memory["rollouts"]
        habits = [skill in operations.HABITS for skill in w.lesson.items["skill"]]
        written = sum(float(n) for n, habit in zip(tally["written"], habits, strict=False) if habit)
        return {**scores(w.model, seed), "written for habits": 100 * written / float(tally["written"].sum())}

    return run


claim = Claim(
    says="in as many updates the skills that can still be learned are at least 5 points better, and what was known is "
    "no more than 2 points worse",
    setting="tagged arithmetic with planted gaps, a Llama of 0.1M weights; 150 updates of 16 questions with 8 answers "
    "each, of 4 skills that it knows, 2 that it does now and then and 2 that it never does",
    arms={"by what they teach": arm(dump("items", "skill")), "alike": arm(shuffled("items"))},
    tests=(
        Test("habits", "by what they teach", "alike", by=5.0, lower_is_better=False),
        Test("known", "by what they teach", "alike", by=-2.0, lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
