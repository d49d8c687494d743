"""What every strategy keeps, whatever it is: it acts or says why not, it can be switched off, it resumes.

Each is held to that in the first world that it can act in, and again by a language model, where it can act on text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.data.scenario import Scenario, Task, recurring
from regraft.evidence.cards import card
from regraft.recipes.strategy import Strategy, method_named
from regraft.worlds.small import METHODS, WORLDS, Went, World, apart, home, lived, same, small

TEXT, ONE_STEP = "text", "one step a task"
READERS = [name for name in METHODS if "language model" in card(name).tags]
"""Those that can learn a stream of texts, where nobody tells the domain."""
CASES = [(name, "") for name in METHODS] + [(name, TEXT) for name in READERS]
OTHERS = [(name, place) for name, place in CASES if name != "naive"]


@cache
def plain(place: str, name: str) -> tuple[World, Went]:
    """Where a strategy is tested, and what plain training comes to there."""
    world = WORLDS[TEXT] if place else home(name)
    return world, lived(Strategy(), world)


@cache
def found(name: str, place: str) -> Went:
    return lived(small(method_named(name)), plain(place, name)[0])


@pytest.mark.parametrize("name", [name for name in METHODS if name not in READERS])
def test_what_cannot_read_text_says_why(name: str) -> None:
    with pytest.raises(RegraftError):
        lived(small(method_named(name)), WORLDS[TEXT])


@pytest.mark.parametrize(("name", "place"), OTHERS)
def test_it_acts_even_with_a_memory_smaller_than_the_batch(name: str, place: str) -> None:
    assert apart(plain(place, name)[1], found(name, place))


@pytest.mark.parametrize(("name", "place"), [case for case in OTHERS if method_named(case[0]).null])
def test_its_null_knobs_are_plain_training_bit_for_bit(name: str, place: str) -> None:
    (world, other), method = plain(place, name), method_named(name)
    null = lived(small(method, **method.null), world)
    assert same(other.weights, null.weights)
    assert (other.lived.scores == null.lived.scores).all()


class Cut(Exception):
    """The run is killed."""


@pytest.mark.parametrize(("name", "place"), CASES)
def test_stopped_in_the_middle_of_a_task_it_ends_in_the_same_bits(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regraft.engine import fit

    world, whole = plain(place, name)[0], found(name, place)
    if not whole.steps:  # a closed form
        return
    advance, steps = fit._Run.advance, 0

    def cut(run: Any, meter: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == whole.steps // 2 + 1:
            raise Cut
        advance(run, meter)

    monkeypatch.setattr(fit._Run, "advance", cut)
    with pytest.raises(Cut):
        lived(small(method_named(name)), world, folder=tmp_path, checkpoint_seconds=0.0)
    resumed = lived(small(method_named(name)), world, folder=tmp_path, checkpoint_seconds=0.0)
    assert (resumed.lived.scores == whole.lived.scores).all()
    assert same(resumed.weights, whole.weights)
    assert same(resumed.lived.memory, whole.lived.memory)
    assert [p.name for p in tmp_path.iterdir()] == ["tasks"]


def thinned(scenario: Scenario, keep: Callable[[Task], Any]) -> Scenario:
    tasks = [Task.of(t.name, t.train.take(keep(t)), t.test, t.asked, t.number) for t in scenario.tasks]
    return Scenario(scenario.name, tuple(tasks), scenario.better)


def one_row_each(scenario: Scenario) -> Scenario:
    if scenario.better == "lower":
        return thinned(scenario, lambda task: [0])
    return thinned(scenario, lambda task: [int((task.train["y"] == c).nonzero()[0]) for c in task.classes])


def one_row_over(scenario: Scenario) -> Scenario:
    return thinned(scenario, lambda task: slice(0, 11))


ODD: dict[str, Callable[[Scenario], Scenario]] = {
    "one row of every class": one_row_each,
    "a last batch of one row": one_row_over,
    "tasks seen twice": lambda scenario: recurring(scenario, 2),
    ONE_STEP: lambda scenario: scenario,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("name", "place"), CASES)
def test_it_bears_odd_sizes(name: str, place: str, odd: str) -> None:
    world, said = plain(place, name)[0], list[str]()
    stream, one_step = world._replace(scenario=ODD[odd](world.scenario)), odd == ONE_STEP
    own = lived(small(method_named(name)), stream, one_step=one_step, on_notice=said.append)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in own.weights.values() if tensor.is_floating_point())
    assert ((own.lived.scores >= 0) & (own.lived.scores <= 1)).all() or own.lived.better == "lower"
    if name != "naive" and not said:
        assert apart(lived(Strategy(), stream, one_step=one_step), own)


@pytest.mark.parametrize(
    ("name", "part", "other"),
    [
        ("online_ewc", "ewc", "naive"),
        ("memory_aware_synapses", "mas", "naive"),
        ("synaptic_intelligence", "si", "naive"),
        ("lwf", "distil", "naive"),
        ("er+online_ewc", "ewc", "er"),
    ],
)
def test_what_holds_the_start_of_a_task_says_that_one_step_does_not_leave_it(name: str, part: str, other: str) -> None:
    world, said = WORLDS["classes"], list[str]()
    own = lived(small(method_named(name)), world, one_step=True, on_notice=said.append)
    assert not apart(lived(small(method_named(other)), world, one_step=True), own)
    assert len(said) == 1
    assert said[0].startswith(f"{part} has no effect on tasks that are learned in one step: ")
    lived(small(method_named(name)), world, on_notice=said.append)
    assert len(said) == 1
