"""Streams without boundaries between tasks: one training over the rows in order, tested amid it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from regraft.core.errors import Clash, RegraftError
from regraft.core.plan import Feed, Plan
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, blurred, split_classes, unbroken
from regraft.engine.edits import still
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.trainables.lora import lora
from regraft.recipes.strategy import Strategy, live, method_named
from regraft.recipes.unbroken import InOrder, steps_of
from regraft.worlds import small

CLASSES, WIDTH = 6, 5
TRAINING = Training(steps=1, batch=4, lr=0.1, optimizer="SGD", clip=None)
TAME = {"most": 2, "window": 2, "memory": 9}


def rows(count: int, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    return Rows({"x": torch.randn(count, WIDTH, generator=dice), "y": torch.arange(count) % CLASSES})


def network(*middle: nn.Module) -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Sequential(nn.Linear(WIDTH, 8), *middle, nn.ReLU(), nn.Linear(8, CLASSES)))


def stream(count: int = 48, **knobs: Any) -> Scenario:
    return unbroken(split_classes(rows(count), rows(24, 1), 3, **knobs))


def test_rows_come_once_and_in_order() -> None:
    asked: list[int] = []
    table = rows(11)

    def passed(_: object) -> list[float]:
        asked.append(sampler.at)
        return [float(sampler.at)]

    sampler = InOrder((4, 6, 7, 11), passed).begin(still({}, {"new": table}, {}, name="new", seed=0))
    drawn = [sampler.draw(5) for _ in range(steps_of(11, 5))]
    assert [each.count for each in drawn] == [5, 6], "no row comes alone"
    assert torch.equal(Rows.join(drawn)["x"], table["x"])
    assert asked == [5]
    assert sampler.leave() == {"ends": [[5.0]]}
    assert [steps_of(count, 5) for count in (1, 5, 6, 7, 10)] == [1, 1, 1, 2, 2]
    assert steps_of(3, 1) == 3
    assert live(network(), stream(12), Strategy(), replace(TRAINING, batch=1)).scores.shape == (4, 3)


def test_a_language_model_is_tested_amid_a_stream() -> None:
    world = small.WORLDS["text"]
    scenario, training = unbroken(world.scenario), replace(world.training, batch=2)
    for strategy in (STRATEGIES["lora"], method_named("er")(memory=4)):
        lived = live(world.network(), scenario, strategy, training)
        early = live(world.network(), replace(scenario, tasks=scenario.tasks[:2]), strategy, training)
        assert (early.scores[-1] == lived.scores[2, :2]).all()


STRATEGIES = {
    "naive": Strategy(),
    "er": method_named("er")(memory=6),
    "der_pp": method_named("der_pp")(memory=6),
    "er_mir": method_named("er_mir")(memory=6),
    "tame": method_named("tame")(**TAME),
    "lora": Strategy(Plan(trainables=(lora(2),))),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_part_is_tested_when_its_last_row_was_learned(name: str) -> None:
    strategy, scenario = STRATEGIES[name], stream()
    lived = live(network(), scenario, strategy, TRAINING)
    assert lived.scores.shape == (4, 3)
    for i in (1, 2):
        early = live(network(), replace(scenario, tasks=scenario.tasks[:i]), strategy, TRAINING)
        assert (early.scores[-1] == lived.scores[i, :i]).all()
    again = live(network(), scenario, strategy, replace(TRAINING, log_every=3))
    assert (again.scores == lived.scores).all()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", ["er", "der_pp", "tame"])
@pytest.mark.parametrize("at", [3, 6, 11])
def test_a_stream_that_was_stopped_goes_on_in_the_same_bits(name: str, at: int, tmp_path: Path) -> None:
    class Meter:
        updates = 0

        def add(self, *, rows: int, tokens: int, updates: int) -> None:
            self.updates += updates
            if self.updates == at:
                raise Stopped

    strategy, whole, model, told = STRATEGIES[name], network(), network(), list[int]()
    lived = live(whole, stream(), strategy, TRAINING)
    with pytest.raises(Stopped):
        live(model, stream(), strategy, TRAINING, folder=tmp_path, meter=Meter(), checkpoint_seconds=0.0)
    again = live(model, stream(), strategy, TRAINING, folder=tmp_path, on_task=lambda i, _: told.append(i))
    assert told == [0, 1, 2]
    assert (again.scores == lived.scores).all()
    assert all(torch.equal(t, whole.state()[n]) for n, t in model.state().items())
    assert small.same(again.memory, lived.memory)
    assert again.memory.keys() <= {"classes", "reservoir", "experts"}
    assert (live(network(), stream(), strategy, TRAINING, folder=tmp_path).scores == lived.scores).all()
    for other in (split_classes(rows(48), rows(24, 1), 3), replace(stream(), tasks=stream().tasks[:2])):
        with pytest.raises(RegraftError, match="another stream is kept here"):
            live(network(), other, strategy, TRAINING, folder=tmp_path)


def test_rows_are_read_in_the_order_of_the_stream() -> None:
    scenario = stream()
    memory = live(network(), scenario, method_named("er")(memory=48), TRAINING).memory["reservoir"]
    assert memory["seen"] == 48
    assert torch.equal(memory["columns"]["x"], torch.cat([task.train["x"] for task in scenario.tasks]))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("batch", [1, 4, 5, 47, 100])
def test_means_are_counted_as_rows_come_and_are_those_of_a_stream_with_boundaries(distance: str, batch: int) -> None:
    train, test = (each.having(x=each["x"].double()) for each in (rows(48), rows(24, 1)))
    told = split_classes(train, test, 3)
    models = [Classifier(network().module.double()) for _ in range(2)]
    whole, parted = (
        live(model, scenario, method_named("ncm")(distance=distance), replace(TRAINING, batch=batch))
        for model, scenario in zip(models, (unbroken(told), told), strict=True)
    )
    assert (whole.scores[-1] == parted.scores[-1]).all()
    assert torch.equal(whole.memory["classes"], parted.memory["classes"])
    here, there = (lived.memory["nearest_mean"] for lived in (whole, parted))
    assert torch.equal(here["counts"], there["counts"])
    assert torch.allclose(here["sums"], there["sums"], rtol=1e-13, atol=1e-13)
    for name, tensor in models[0].state().items():
        assert torch.allclose(tensor, models[1].state()[name], rtol=1e-13, atol=1e-13)
    if 16 % batch == 0:  # a batch ends where a task does
        assert (whole.scores == parted.scores).all()


def test_a_strategy_of_counting_edits_is_tested_when_a_last_row_was_counted(tmp_path: Path) -> None:
    scenario = unbroken(blurred(split_classes(rows(48), rows(24, 1), 3), 0.25, seed=1))
    strategy, model, again, training = method_named("ncm")(), network(), network(), replace(TRAINING, batch=1)
    lived = live(model, scenario, strategy, training, folder=tmp_path)
    for i in (1, 2):
        early = live(network(), replace(scenario, tasks=scenario.tasks[:i]), strategy, training)
        assert (early.scores[-1] == lived.scores[i, :i]).all()
    assert (live(again, scenario, strategy, training, folder=tmp_path).scores == lived.scores).all()
    assert small.same(again.state(), model.state())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("online_ewc", "ewc cannot act on a stream without boundaries .*: what it learns when a task ends serves the"),
        ("synaptic_intelligence", "si cannot act .*: what it learns when a task ends serves the next"),
        ("gradient_episodic_memory", "gem cannot act .*: what it learns when a task ends"),
        ("er+online_ewc", "ewc cannot act"),
        ("lwf", "distil cannot act .*: it tells the classes of earlier tasks from others"),
        ("er_ace", "asymmetric cannot act .*: it tells the classes of earlier tasks from others"),
        ("icarl", "nearest_mean cannot act .*: it comes before or after each task"),
        ("few_shot", "Stage cannot act .*: it comes before or after each task"),
        ("slca", "class_gaussians cannot act .*: it comes before or after each task"),
        ("wa", "weight_aligning cannot act .*: it comes before or after each task"),
        ("gdumb", "Stage cannot act .*: it comes before or after each task"),
        ("vbm", "view_batch cannot act .*: it draws new rows in an order of its own"),
        ("cumulative", "the strategy cannot act .*: every task reads the rows of those before it again"),
    ],
)
def test_what_needs_boundaries_says_why(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(Clash, match=says) as caught:
        live(network(), stream(), method_named(name)(), TRAINING, folder=tmp_path)
    assert "Take methods tagged task-free, such as er" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_an_unbroken_stream_refuses() -> None:
    with pytest.raises(RegraftError, match=r"is read once, not for 2 epochs. Set epochs to 1"):
        live(network(), stream(), Strategy(), TRAINING, epochs=2)
    with pytest.raises(RegraftError, match="which tells its boundaries"):
        stream(told=True)
    shared = Strategy(Plan(feeds=(Feed("memory", reservoir(4), share=0.5),)))
    with pytest.raises(Clash, match=r"reservoir cannot act .*: its rows come in the place of new ones"):
        live(network(), stream(), shared, TRAINING)
    again = Strategy(epochs=0.5)
    with pytest.raises(Clash, match=r"it makes 0.5 passes over a task"):
        live(network(), stream(), again, TRAINING)


def test_batch_normalisation_is_given_no_row_alone() -> None:
    scenario = unbroken(split_classes(rows(21), rows(24, 1), 3))
    model = network(nn.BatchNorm1d(8))
    lived = live(model, scenario, Strategy(), TRAINING)
    assert np.isfinite(lived.scores).all()
    assert int(model.state()["1.num_batches_tracked"]) == 5


def test_strays_of_a_blurred_stream_come_amid_the_rows_of_a_task() -> None:
    scenario = blurred(split_classes(rows(600), rows(24, 1), 2), 0.2, seed=1)
    for number, task in enumerate(scenario.tasks):
        y = task.train["y"]
        stray = (y // 3) != number
        thirds = [float(part.double().mean()) for part in stray.chunk(3)]
        assert all(0.1 < each < 0.3 for each in thirds)
        own = task.train["x"][~stray]
        places = [int((rows(600)["x"] == x).all(1).nonzero()) for x in own]
        assert places == sorted(places)
