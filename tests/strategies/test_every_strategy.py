"""What every strategy keeps, whatever it is: it acts, it can be switched off, it resumes, it bears odd sizes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.data.scenario import Scenario, Task, recurring
from regraft.recipes.strategy import Strategy, method_named
from regraft.worlds.small import METHODS, World, home, lived, same, small

OTHERS = [name for name in METHODS if name != "naive"]


@cache
def found(name: str) -> tuple[World, Any, Any]:
    """Where a strategy is tested, and what plain training and the strategy come to there."""
    world = home(name)
    return world, lived(Strategy(), world), lived(small(method_named(name)), world)


@pytest.mark.parametrize("name", OTHERS)
def test_it_acts_even_with_a_memory_smaller_than_the_batch(name: str) -> None:
    _, (weights, plain), (own_weights, own) = found(name)
    assert not same(weights, own_weights) or (plain.scores != own.scores).any()


@pytest.mark.parametrize("name", [name for name in OTHERS if method_named(name).null])
def test_its_null_knobs_are_plain_training_bit_for_bit(name: str) -> None:
    world, (weights, plain), _ = found(name)
    method = method_named(name)
    null_weights, null = lived(small(method, **method.null), world)
    assert same(weights, null_weights)
    assert (plain.scores == null.scores).all()


class Cut(Exception):
    """The run is killed."""


@pytest.mark.parametrize("name", METHODS)
def test_stopped_in_the_middle_of_a_task_it_ends_in_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regraft.engine import fit

    world, _, (weights, own) = found(name) if name != "naive" else (home(name), None, lived(Strategy(), home(name)))
    advance, steps = fit._Run.advance, 0

    def cut(run: Any, meter: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 12:
            raise Cut
        advance(run, meter)

    monkeypatch.setattr(fit._Run, "advance", cut)
    with suppress(Cut):  # a method that trains little is through before
        lived(small(method_named(name)), world, folder=tmp_path, checkpoint_seconds=0.0)
    resumed_weights, resumed = lived(small(method_named(name)), world, folder=tmp_path, checkpoint_seconds=0.0)
    assert (resumed.scores == own.scores).all()
    assert same(resumed_weights, weights)
    assert same(resumed.memory, own.memory)
    assert [p.name for p in tmp_path.iterdir()] == ["tasks"]


def thinned(scenario: Scenario, keep: Callable[[Task], Any]) -> Scenario:
    tasks = [Task.of(t.name, t.train.take(keep(t)), t.test, t.asked, t.number) for t in scenario.tasks]
    return Scenario(scenario.name, tuple(tasks), scenario.better)


def one_row_each(scenario: Scenario) -> Scenario:
    return thinned(scenario, lambda task: [int((task.train["y"] == c).nonzero()[0]) for c in task.classes])


def one_row_over(scenario: Scenario) -> Scenario:
    return thinned(scenario, lambda task: slice(0, 11))


ODD = {
    "one row of every class": one_row_each,
    "a last batch of one row": one_row_over,
    "classes seen twice": lambda scenario: recurring(scenario, 2),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", METHODS)
def test_it_bears_odd_sizes(name: str, odd: str) -> None:
    world = home(name) if name == "naive" else found(name)[0]
    stream = World(ODD[odd](world.scenario), world.network)
    weights, own = lived(small(method_named(name)), stream)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values() if tensor.is_floating_point())
    assert ((own.scores >= 0) & (own.scores <= 1)).all() or own.better == "lower"
    if name != "naive":
        plain_weights, plain = lived(Strategy(), stream)
        assert not same(plain_weights, weights) or (plain.scores != own.scores).any()
