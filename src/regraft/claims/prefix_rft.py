"""Prefix-RFT, with demonstrations of some of the questions, against imitation and reinforcement alone."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.schedules.cooldown import cooldown
from regraft.recipes.repairing import Repair
from regraft.repairs.imitation import imitation
from regraft.repairs.prefix_rft import prefix_rft
from regraft.repairs.reinforcement import reinforcement
from regraft.repairs.sasr import sasr
from regraft.worlds import chains
from regraft.worlds.shown_chains import lesson, rates, repaired

STEPS, EACH, SHOWN = 150, 150, 40
LEARNED, LONGER = (4, 5), (6,)
MISTAKEN = {"take": 0.7, "most": 0.7}


def arm(how: Repair, shown: int = SHOWN) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = chains.base(seed, MISTAKEN)
        repaired(how, model, lesson(seed, LEARNED, EACH, shown), STEPS, seed, meter)
        return rates(model, seed, {"learned": LEARNED, "longer": LONGER})

    return run


claim = Claim(
    says="in as many updates at least 3 points better than imitation of the demonstrations and than reinforcement "
    "alone, and no worse than imitation on longer questions; neither counting all tokens of prefixes nor lengths that "
    "do not move in time is more than 3 points better",
    setting="chains of arithmetic modulo 10 of which every step is checked, a Llama of 0.1M weights that does "
    f"differences and larger numbers rightly in 3 of 10 steps; {STEPS} updates of 128 rows, 8 answers to a question, "
    f"of 4 or 5 steps, {EACH} questions of each, {SHOWN} demonstrations in all; tested on these, and on 6 steps",
    arms={
        "Prefix-RFT": arm(prefix_rft()),
        "imitation": arm(imitation()),
        "reinforcement": arm(reinforcement()),
        "imitation, then reinforcement": arm(sasr(kl=0.0, p=cooldown(early=1.0, late=0.0, switch=0.2))),
        "all tokens": arm(prefix_rft(top=1.0)),
        "lengths that stay": arm(prefix_rft(early=0.05)),
        "a fifth of the demonstrations": arm(prefix_rft(), SHOWN // 5),
    },
    tests=(
        Test("learned", "Prefix-RFT", "imitation", by=3.0, lower_is_better=False),
        Test("learned", "Prefix-RFT", "reinforcement", by=3.0, lower_is_better=False),
        Test("longer", "Prefix-RFT", "imitation", lower_is_better=False),
        Test("learned", "Prefix-RFT", "all tokens", by=-3.0, lower_is_better=False),
        Test("learned", "Prefix-RFT", "lengths that stay", by=-3.0, lower_is_better=False),
    ),
    budget="updates",
    calibrated_on=(100, 101),
)
