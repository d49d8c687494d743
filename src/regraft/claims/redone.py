"""Explore, repair, refine, against demonstrations alone and demonstrations before reinforcement."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.recipes.repairing import SHOWN, Repair, Workshop, repair
from regraft.repairs.imitation import imitation
from regraft.repairs.redone import redone
from regraft.worlds import operations
from regraft.worlds.repairs import repaired, scores, workshop

STEPS, EACH = 500, 500
SKILLS = tuple(operations.OPERATIONS)
DOMAIN = (*operations.HABITS, *operations.MISSING)


@repair
def shown_first(w: Workshop) -> None:
    """Demonstrations of the domain in the first half, reinforcement of everything in the second."""
    w.fit(w.imitated(), w.left // 2, data={SHOWN: w.lesson.demonstrations(w.lesson.of(DOMAIN))})
    w.fit(w.reinforced())


def arm(how: Repair) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        return domain(repaired(how, workshop(seed, SKILLS, EACH, STEPS, meter)))

    return run


def before(meter: Meter, seed: int) -> dict[str, float]:
    return domain(scores(operations.base(seed), seed))


def domain(found: dict[str, float]) -> dict[str, float]:
    """The mean over the skills that are to be learned, and over those that were known."""
    habits, missing = len(operations.HABITS), len(operations.MISSING)
    learned = (habits * found["habits"] + missing * found["missing"]) / (habits + missing)
    return {"domain": learned, "general": found["known"]}


claim = Claim(
    says="in as many updates what is to be learned is no worse than by demonstrations alone, what was known at most 2 "
    "points worse than before, where demonstrations alone lose more than 5 points; and more of that is lost without "
    "soft labels",
    setting="tagged arithmetic with planted gaps, a Llama of 0.1M weights; 500 updates of 128 rows; 500 questions of "
    "each of 4 skills that it knows, 2 that it does now and then and 2 that it never does, each with a demonstration",
    arms={
        "explore, repair, refine": arm(redone()),
        "without soft labels": arm(redone(general=0.0)),
        "demonstrations": arm(imitation(which="failing")),
        "demonstrations, then reinforcement": arm(shown_first()),
        "nothing": before,
    },
    tests=(
        Test("domain", "explore, repair, refine", "demonstrations", lower_is_better=False),
        Test("general", "explore, repair, refine", "nothing", by=-2.0, lower_is_better=False),
        Test("general", "nothing", "demonstrations", by=5.0, lower_is_better=False),
        Test("general", "explore, repair, refine", "without soft labels", lower_is_better=False),
    ),
    budget="updates",
    unequal={"nothing": "it is the model before"},
    seeds=(0, 1, 2),
    calibrated_on=(100,),
)
