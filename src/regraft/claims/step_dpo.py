"""Per-step DPO against DPO on whole answers, self-training and imitation, where demonstrations have a spurious step."""

from __future__ import annotations

from collections.abc import Callable

from regraft.engine.bits import one_thread
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.recipes.repairing import Workshop
from regraft.repairs.imitation import imitation
from regraft.repairs.own_preferences import own_preferences
from regraft.repairs.self_training import self_training
from regraft.repairs.step_dpo import step_dpo
from regraft.worlds import chains, detours

STEPS, EACH, LEARNED, RATE, WARM = 150, 40, (4, 5), 0.5, 0.3


def arm(how: Callable[[Workshop], None]) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = detours.base(seed, RATE)
        with one_thread():
            detours.repaired(how, model, detours.lesson(seed, LEARNED, EACH, RATE), STEPS, seed, meter)
        return detours.scores(model, seed, LEARNED)

    return run


def steps(beta: float, alpha: float) -> Arm:
    return arm(step_dpo(ends=(chains.STEP,), warm_up=WARM, K=4, each=2, beta=beta, alpha=alpha))


def whole(beta: float, alpha: float) -> Arm:
    """The same warm-up, then pairs of a right and a wrong answer, as many of a question."""

    def how(w: Workshop) -> None:
        w.fit(w.imitated(), round(WARM * w.left))
        own_preferences(rounds=1, beta=beta, alpha=alpha, each=2)(w)

    return arm(how)


claim = Claim(
    says="more of the answers drawn is right after per-step DPO with the likelihood of what is preferred than after "
    "self-training, by 10 points, and than after imitation, by 5; with that likelihood and without it, more than after "
    "DPO on whole answers, by 5; the spurious step is at least 20 points rarer than after imitation, and after "
    "self-training at least 5 points more frequent",
    setting="chains of arithmetic modulo 10 whose answer is checked, a Llama of 0.1M weights that errs in 5 of 10 "
    f"differences and larger numbers, and in 8 of 10 after a spurious step, with which half of its answers and of the "
    f"demonstrations begin; {EACH} questions of 4 and of 5 steps, {STEPS} updates of 128 rows",
    arms={
        "per-step DPO": steps(0.3, 0.0),
        "per-step DPO, with likelihood": steps(0.1, 1.0),
        "whole answers": whole(0.3, 0.0),
        "whole answers, with likelihood": whole(0.1, 1.0),
        "self-training": arm(self_training(warm_up=WARM, samples=32)),
        "imitation": arm(imitation()),
    },
    tests=(
        Test("drawn", "per-step DPO, with likelihood", "self-training", by=10.0, lower_is_better=False),
        Test("drawn", "per-step DPO, with likelihood", "imitation", by=5.0, lower_is_better=False),
        Test("drawn", "per-step DPO, with likelihood", "whole answers, with likelihood", by=5.0, lower_is_better=False),
        Test("drawn", "per-step DPO", "whole answers", by=5.0, lower_is_better=False),
        Test("detours", "per-step DPO", "imitation", by=20.0),
        Test("detours", "per-step DPO, with likelihood", "imitation", by=20.0),
        Test("detours", "self-training", "imitation", by=5.0, lower_is_better=False),
    ),
    budget="updates",
    calibrated_on=(100,),
)
