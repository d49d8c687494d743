"""Questions from easy to hard, sorted anew as the model learns, against the order of the start and a random one."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.numerics.ranking import inversion_rate
from regraft.recipes.repairing import Repair
from regraft.repairs.easy_to_hard import easy_to_hard
from regraft.repairs.reinforcement import reinforcement
from regraft.worlds import chains
from regraft.worlds.shown_chains import lesson, rates, repaired, tries

STEPS, EACH, K, LEARNED = 60, 192, 5, (1, 2, 3, 4, 5)
SAMPLE = 4
"""The order of difficulty is measured on every so many-th question."""


def arm(how: Repair | None) -> Arm:
    """How much is right over all difficulties, and how much of the order of difficulty at the start is turned round,
    by tries of which none is the same."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model, learned = chains.base(seed), lesson(seed, LEARNED, EACH)
        sample = learned.items.take(slice(0, None, SAMPLE))
        before = 1 - tries(model, sample).mean(1)
        if how is not None:
            repaired(how, model, learned, STEPS, seed, meter)
        after = 1 - tries(model, sample, seed=1).mean(1)
        return {**rates(model, seed, {"all": LEARNED}), "inversions": 100 * inversion_rate(before, after)}

    return run


claim = Claim(
    says="in as many updates at least 1 point better than in the order of the start; and reinforcement turns round at "
    "least 3 points more of the order of difficulty than measuring it twice does",
    setting="chains of arithmetic modulo 10 of 1 to 5 steps of which every step is checked, a Llama of 0.1M weights "
    f"that does about half of the differences and larger numbers rightly; {STEPS} updates of 128 rows, 8 answers to a "
    f"question, {EACH} questions of each length, each asked once",
    arms={
        "sorted anew": arm(easy_to_hard(K=K, tries=0)),
        "order of the start": arm(easy_to_hard(K=1, tries=0)),
        "random order": arm(reinforcement()),
        "nothing learned": arm(None),
    },
    tests=(
        Test("all", "sorted anew", "order of the start", by=1.0, lower_is_better=False),
        Test("inversions", "order of the start", "nothing learned", by=3.0, lower_is_better=False),
    ),
    budget="updates",
    unequal={"nothing learned": "it shows what chance alone turns round"},
    calibrated_on=(100, 101, 102),
)
