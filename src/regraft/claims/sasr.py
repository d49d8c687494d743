"""SASR against imitation, reinforcement, one after the other, and either of the two in half of the steps."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.schedules.cooldown import cooldown
from regraft.recipes.repairing import Repair
from regraft.repairs.imitation import imitation
from regraft.repairs.reinforcement import reinforcement
from regraft.repairs.sasr import sasr
from regraft.worlds import chains
from regraft.worlds.shown_chains import lesson, rates, repaired

STEPS, EACH, SHOWN, WARM = 150, 150, 40, 0.2
LEARNED, HARDER = (4, 5), (6,)
MISTAKEN = {"take": 0.7, "most": 0.7}


def arm(how: Repair) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = chains.base(seed, MISTAKEN)
        repaired(how, model, lesson(seed, LEARNED, EACH, SHOWN), STEPS, seed, meter)
        return rates(model, seed, {"learned": LEARNED, "harder": HARDER})

    return run


claim = Claim(
    says="on harder questions no more than a point worse than imitation alone and than reinforcement alone, and no "
    "worse than either of the two by a fair coin",
    setting="chains of arithmetic modulo 10 of which every step is checked, a Llama of 0.1M weights that does "
    f"differences and larger numbers rightly in 3 of 10 steps; {STEPS} updates of 128 rows, a fifth of them warm-up, 8 "
    f"answers to a question, of 4 or 5 steps, {EACH} questions of each, {SHOWN} demonstrations in all; tested on 6 "
    "steps",
    arms={
        "SASR": arm(sasr(warm=WARM)),
        "imitation": arm(imitation()),
        "reinforcement": arm(reinforcement(kl=0.04)),
        "imitation, then reinforcement": arm(sasr(warm=WARM, p=cooldown(early=1.0, late=0.0, switch=WARM))),
        "half of the steps": arm(sasr(warm=WARM, p=cooldown(early=1.0, late=0.5, switch=WARM))),
    },
    tests=(
        Test("harder", "SASR", "imitation", by=-1.0, lower_is_better=False),
        Test("harder", "SASR", "reinforcement", by=-1.0, lower_is_better=False),
        Test("harder", "SASR", "half of the steps", lower_is_better=False),
    ),
    budget="updates",
    calibrated_on=(100, 101),
)
