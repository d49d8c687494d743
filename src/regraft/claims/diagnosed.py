"""What the map of skills asks for, against demonstrations of failing skills alone and rewards alone."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.recipes.repairing import Repair
from regraft.repairs.diagnosed import diagnosed
from regraft.repairs.imitation import imitation
from regraft.repairs.reinforcement import reinforcement
from regraft.worlds import operations
from regraft.worlds.repairs import repaired, scores, workshop

STEPS, EACH = 500, 500
SKILLS = tuple(operations.OPERATIONS)


def arm(how: Repair) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        return repaired(how, workshop(seed, SKILLS, EACH, STEPS, meter))

    return run


def before(meter: Meter, seed: int) -> dict[str, float]:
    return scores(operations.base(seed), seed)


claim = Claim(
    says="in no more updates the mean over all skills is at least 5 points over that of imitation of failing skills "
    "and over that of reinforcement, and what was known is no more than 3 points worse than before",
    setting="tagged arithmetic with planted gaps, a Llama of 0.1M weights; 500 updates of 128 rows; 500 questions of "
    "each of 4 skills that it knows, 2 that it does now and then and 2 that it never does, each with a demonstration",
    arms={
        "diagnosed": arm(diagnosed()),
        "imitation of failing skills": arm(imitation(which="failing")),
        "imitation of all": arm(imitation(which="all")),
        "reinforcement": arm(reinforcement()),
        "nothing": before,
    },
    tests=(
        Test("all", "diagnosed", "imitation of failing skills", by=5.0, lower_is_better=False),
        Test("all", "diagnosed", "reinforcement", by=5.0, lower_is_better=False),
        Test("known", "diagnosed", "nothing", by=-3.0, lower_is_better=False),
    ),
    budget="updates",
    unequal={
        "nothing": "it is the model before",
        "diagnosed": "it ends where no skill fails, at the latest with the others",
    },
    seeds=(0, 1, 2),
    calibrated_on=(100,),
)
