"""A temperature that comes down against fixed ones, on two languages of 50 to 1."""

from __future__ import annotations

from regraft.core.plan import Knob
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.samplers.temperature import temperature
from regraft.parts.schedules.cooldown import cooldown
from regraft.worlds.imbalanced import learn


def at(tau: Knob) -> Arm:
    def arm(meter: Meter, seed: int) -> dict[str, float]:
        return learn(meter, seed, temperature(tau=tau))

    return arm


claim = Claim(
    says="the rare language ends at a loss no higher than with tau fixed at 5 or 1, the common one within 2% of "
    "tau = 1",
    setting="two random languages of letters, 66,000 and 1,320 windows; one hidden layer; 600 updates of 64 rows; "
    "held-out loss",
    arms={
        "cooldown": at(cooldown()),
        "cooldown, gradual": at(cooldown(gradual=True)),
        "cooldown from 1 to 1": at(cooldown(early=1.0, late=1.0)),
        "tau 1": at(1.0),
        "tau 5": at(5.0),
        "tau 100": at(100.0),
    },
    tests=(
        Test("rare loss", "cooldown", "tau 5"),
        Test("rare loss", "cooldown", "tau 1"),
        Test("common loss", "cooldown", "tau 1", relative=-0.02),
    ),
    budget="rows",
    null=("cooldown from 1 to 1", "tau 1"),
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
