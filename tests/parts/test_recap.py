"""Weights of several objectives, by how they converge and how steady they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from part_world import STEPS, context, resumed, run, same, table

from regraft.core.errors import RegraftError
from regraft.core.parts import Outcome, Progress
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.sometimes import sometimes
from regraft.parts.schedules.recap import Objective, recap, weights
from regraft.recipes.resolve import described, part

TWO = (Objective("old", "old", "nll"), Objective("new", "new", "nll"))
DATA = {"old": table(30, 1), "new": table(30, 2)}


def plan(by: Any, *, solo: bool = False) -> Plan:
    old = Feed("old", sometimes(shuffled("old"), 0.5), solo=True) if solo else Feed("old", shuffled("old"))
    feeds = (old, Feed("new", shuffled("new")))
    return Plan(feeds, tuple(Weighted(nll(), by(name), on=(name,)) for name in ("old", "new")))


def of(**knobs: Any) -> Any:
    return lambda name: recap(name, TWO, **{"W": 2, **knobs})


def heard(feed: str, **losses: list[float]) -> Outcome:
    rows = Rows({"row": torch.arange(2)})
    return Outcome(feed, rows, {name: torch.tensor(values) for name, values in losses.items()}, Progress(0, 9))


def test_weights_are_their_formula() -> None:
    values = torch.rand(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    s = []
    for own in values.tolist():
        before, last = sum(own[:4]) / 4, sum(own[4:]) / 4
        sigma = math.sqrt(sum((v - last) ** 2 for v in own) / 8)
        s.append((before + 0.01) / (last + 0.01) + sigma / (last + before + 0.01))
    each = [math.exp(v / 0.7) for v in s]
    wanted = torch.tensor([3 * e / sum(each) for e in each], dtype=torch.float64)
    assert torch.allclose(weights(values, 0.7, 0.01), wanted)


def test_they_add_up_to_their_number_and_what_rests_counts_less() -> None:
    for seed in range(50):
        dice = torch.Generator().manual_seed(seed)
        values = torch.rand(5, 6, generator=dice, dtype=torch.float64) * 10 ** (seed % 4)
        assert abs(float(weights(values, 0.1, 0.01).sum()) - 5) < 1e-9
    resting, slow = torch.full((8,), 1e-4), torch.linspace(1.0, 0.6, 8)
    unsteady = torch.tensor([0.5, 0.9] * 4)
    found = weights(torch.stack([resting, slow, unsteady]).double(), 1.0, 0.01)
    assert found[0] < found[2] < 1 < found[1]
    nothing = weights(torch.zeros(7, 2, dtype=torch.float64), 1.0, 0.01)
    assert torch.equal(nothing, torch.ones_like(nothing)), "all at rest"


@pytest.mark.parametrize("count", [1, 3, 49])
def test_without_a_temperature_all_are_one(count: int) -> None:
    values = torch.rand(count, 4, dtype=torch.float64)
    assert weights(values, math.inf, 0.01).tolist() == [1.0] * count
    assert weights(values[:1], 0.3, 0.01).tolist() == [1.0], "one objective"


def test_a_run_without_a_temperature_is_one_with_equal_weights_bit_for_bit() -> None:
    plain, _ = run(plan(lambda name: 1.0), DATA)
    assert same(plain, run(plan(of(T=math.inf)), DATA)[0])
    assert same(plain, run(plan(of(W=STEPS)), DATA)[0]), "until every objective has 2 W values"
    assert not same(plain, run(plan(of(T=0.1)), DATA)[0])


@pytest.mark.parametrize("solo", [False, True])
@pytest.mark.parametrize("at", [1, 5, 9])
def test_resumed_equals_uninterrupted(at: int, solo: bool, tmp_path: Path) -> None:
    how = plan(of(T=0.1, W=1), solo=solo)
    assert same(run(how, DATA)[0], resumed(how, tmp_path, at, DATA)[0])


def test_losses_and_rewards_are_heard_by_their_feed() -> None:
    three = (*TWO, Objective("form", "rl", "reward/form"))
    ctx = context()
    found: dict[Any, Any] = {}

    def begin(part: Any) -> Any:
        if part not in found:
            found[part] = part.begin(ctx)
        return found[part]

    ctx.begin = begin
    schedules = [recap(each.name, three, W=1, T=0.5).begin(ctx) for each in three]
    (shared,) = found.values()
    assert shared.wants == ("losses",)
    now = Progress(0, 9)

    def rewarded(*rewards: float) -> Outcome:
        rows = Rows({"reward/form": torch.tensor(rewards)})
        return Outcome("rl", rows, {}, now)

    shared.observe(heard("old", nll=[1.0, 3.0]))
    shared.observe(heard("new", nll=[1.0, 1.0]))
    shared.observe(heard("other", nll=[9.0, 9.0]))
    shared.observe(rewarded(0.25, math.nan))
    shared.observe(rewarded(math.nan, math.nan))
    assert shared.heard == [[2.0], [1.0], [0.75]]
    assert [each(now) for each in schedules] == [1.0] * 3
    shared.observe(heard("old", nll=[1.0, 1.0]))
    shared.observe(heard("new", nll=[1.0, 1.0]))
    shared.observe(rewarded(1.0, 1.0))
    shared.observe(rewarded(1.0, 1.0))
    assert shared.heard == [[2.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    old, new, form = (each(now) for each in schedules)
    assert old > 1 > new
    assert new == form
    with pytest.raises(RegraftError, match="no loss 'nll' reads the feed 'old'"):
        shared.observe(heard("old"))
    with pytest.raises(RegraftError, match="'form' is -1"):
        shared.observe(rewarded(2.0))
    alone = recap("form", three[2:], W=1)
    assert begin(alone)(now) == 1.0
    assert list(found.values())[-2].wants == (), "rewards are in the rows"
    assert part("schedules", described(three_of := recap("form", three)), where="test") == three_of


def test_bad_knobs_say_so() -> None:
    for knobs in ({"W": 0}, {"T": 0.0}, {"eps": 0.0}):
        with pytest.raises(RegraftError, match="W must be 1 or more"):
            recap("old", TWO, **knobs)  # type: ignore[arg-type]
    with pytest.raises(RegraftError, match="must be one of the objectives"):
        recap("else", TWO)
    with pytest.raises(RegraftError, match="none there twice"):
        recap("old", (*TWO, TWO[0]))
