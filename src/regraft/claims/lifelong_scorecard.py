"""The scorecard of lives whose values are known, and of real ones: digits two at a time, with replay and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.classifier import Classifier
from regraft.numerics.lifelog import Block
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.lifelong_scorecard import scorecard
from regraft.parts.samplers.replay import replay
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds.tables import Split, accuracy, data_set, perceptron

TASKS, STEPS, BATCH, LR, EVERY, SHARE = 5, 100, 32, 0.05, 2, 0.5
SCALE = {"a": (1.0, 101.0), "b": (1.0, 101.0)}


def life(remembers: Callable[[Rows], Rows] | None) -> Arm:
    """Learns the digits 0 and 1, then 2 and 3, and so on, measured on every pair after each.

    `remembers`: what of the rows of earlier pairs replay may draw; None: a plan without replay.
    """

    def arm(meter: Meter, seed: int) -> dict[str, float]:
        model, tasks = perceptron(64, 64, 10, seed=seed), _pairs(seed)
        log = [_evaluation(model, tasks, name) for name in tasks]
        past = next(iter(tasks.values())).train.take(slice(0, 0))
        for name, (rows, held) in tasks.items():
            log.append(_learning(model, name, {"new": rows, "past": past}, held, remembers is not None, seed, meter))
            log += [_evaluation(model, tasks, each) for each in tasks]
            if remembers is not None:
                past = remembers(Rows.join([past, rows]))
        found = scorecard(log).lifetime
        raw = scorecard([Block.of(b.kind, b.task, 3.0 - 0.01 * b.performance) for b in log], better="lower").lifetime
        return {**found, "change of unit": max(abs(found[n] - raw[n]) for n in found)}

    return arm


def _pairs(seed: int) -> Mapping[str, Split]:
    whole = data_set("digits", seed)
    return {f"{2 * t}{2 * t + 1}": Split(*(r.where(r["y"] // 2 == t) for r in whole)) for t in range(TASKS)}


def _learning(
    model: Classifier, name: str, data: Mapping[str, Rows], held: Rows, replays: bool, seed: int, meter: Meter
) -> Block:
    past = (Feed("past", replay(), SHARE),) if replays else ()
    plan = Plan((Feed("new", shuffled()), *past), (Weighted(nll()),))
    curve = [accuracy(model, held)]
    training = Training(STEPS, BATCH, LR, optimizer="SGD", seed=seed, log_every=EVERY, explode=1e9)
    fit(model, plan, data, training, meter=meter, on_record=lambda _: curve.append(accuracy(model, held)))
    return Block.of("learning", name, curve)


def _evaluation(model: Classifier, tasks: Mapping[str, Split], name: str) -> Block:
    return Block.of("evaluation", name, [accuracy(model, tasks[name].held)])


def known_lives(meter: Meter, seed: int) -> dict[str, float]:
    """The largest error over lives made by hand, whose numbers the seed draws."""
    dice = np.random.default_rng(seed)
    start, gain = 1 + 20 * dice.random(), 1 + 50 * dice.random()
    drop, until = gain * dice.random(), int(dice.integers(3, 6))
    wanted = {
        "maintenance": -drop,
        "forward_ratio": 2.0,
        "forward_transfer": 1 / 3,
        "backward_ratio": (start + gain - drop) / (start + gain),
        "sample_efficiency": 2.0,
        "performance_recovery": 3.0,
    }

    def learned(task: str, *values: float) -> Block:
        return Block.of("learning", task, values)

    def ramp(length: int) -> Block:
        return learned("a", *(1 + 80 * min(i / length, 1.0) for i in range(14)))

    evaluated = [("b", start), ("a", start + gain), ("b", 2 * start), ("a", start + gain - drop)]
    tests = [Block.of("evaluation", task, [value]) for task, value in evaluated]
    memory = [tests[0], learned("a", 1, 90), *tests[1:3], learned("b", 1, 90), tests[3]]
    # Back after 7, 4 and 1 experiences: sooner by 3 each time.
    slower = [learned("a", *[80.0] * 10), *(learned("a", *[1.0] * n, *[80.0] * (12 - n)) for n in (7, 4, 1))]
    lives: list[tuple[list[Block], list[Block]]] = [(memory, []), ([ramp(until)], [ramp(2 * until)]), (slower, [])]
    found = {n: v for life, experts in lives for n, v in scorecard(life, experts, ranges=SCALE).lifetime.items()}
    return {"error": max(abs(found[name] - value) for name, value in wanted.items())}


def exact(meter: Meter, seed: int) -> dict[str, float]:
    return {"error": 0.0, "change of unit": 0.0}


claim = Claim(
    says="replay has a higher maintenance than naive training, lives made by hand have the values that they were "
    "given, and no affine change of the raw metric changes a value",
    setting="digits two at a time, one output layer for all; one hidden layer, SGD; 5 times 100 updates of 32 rows, "
    "half of them replayed; and lives of two tasks made by hand",
    arms={
        "naive": life(None),
        "replay": life(lambda past: past),
        "replay of nothing": life(lambda past: past.take(slice(0, 0))),
        "lives made by hand": known_lives,
        "exact": exact,
    },
    tests=(
        Test("maintenance", "replay", "naive", lower_is_better=False),
        Test("change of unit", "replay", "exact", by=-1e-6),
        Test("change of unit", "naive", "exact", by=-1e-6),
        Test("error", "lives made by hand", "exact", by=-1e-6),
    ),
    budget="rows",
    unequal={"lives made by hand": "nothing is trained", "exact": "a number, not a run"},
    null=("replay of nothing", "naive"),
    calibrated_on=(100,),
)
