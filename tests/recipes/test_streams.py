"""A stream that is lived: what it refuses, what it leaves of the model, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from regraft.core.errors import Diverged, RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.lora import lora
from regraft.recipes.strategy import Strategy, live, method, method_named

CLASSES, WIDTH = 6, 5
TRAINING = Training(steps=1, batch=4, lr=0.1, optimizer="SGD", clip=None)
LOW_RANK = Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(lora(2),))


def rows(count: int, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    return Rows({"x": torch.randn(count, WIDTH, generator=dice), "y": torch.arange(count) % CLASSES})


def network(outputs: int = CLASSES, *middle: nn.Module) -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Sequential(nn.Linear(WIDTH, 8), *middle, nn.ReLU(), nn.Linear(8, outputs)))


def stream(tasks: int = 3, **knobs: Any) -> Scenario:
    return split_classes(rows(36), rows(24, 1), tasks, **knobs)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", ["joint", "er", "gdumb", "ewc_lora", "gradient_episodic_memory"])
def test_the_network_that_was_stopped_goes_on_in_the_same_bits(name: str, tmp_path: Path) -> None:
    knobs = {"memory": 5} if name == "gradient_episodic_memory" else {}
    strategy = method_named(name)(**knobs)
    whole = network()
    lived = live(whole, stream(), strategy, TRAINING, epochs=2)

    class Meter:
        updates = 0

        def add(self, *, rows: int, tokens: int, updates: int) -> None:
            self.updates += updates
            if self.updates == 15:
                raise Stopped

    model = network()
    with pytest.raises(Stopped):
        live(model, stream(), strategy, TRAINING, epochs=2, folder=tmp_path, meter=Meter(), checkpoint_seconds=0.0)
    again = live(model, stream(), strategy, TRAINING, epochs=2, folder=tmp_path)
    assert (again.scores == lived.scores).all()
    assert all(torch.equal(t, whole.state()[n]) for n, t in model.state().items())


def test_a_folder_is_of_one_stream(tmp_path: Path) -> None:
    strategy = Strategy()
    live(network(), stream(), strategy, TRAINING, folder=tmp_path)
    others: list[tuple[Scenario, Strategy, Training, float]] = [
        (replace(stream(), tasks=stream().tasks[:2]), strategy, TRAINING, 1.0),
        (stream(2), strategy, TRAINING, 1.0),
        (stream(order=1), strategy, TRAINING, 1.0),
        (stream(), method_named("er")(), TRAINING, 1.0),
        (stream(), strategy, replace(TRAINING, lr=0.2), 1.0),
        (stream(), strategy, TRAINING, 2.0),
    ]
    for scenario, other, training, epochs in others:
        with pytest.raises(RegraftError, match="another stream is kept here"):
            live(network(), scenario, other, training, epochs=epochs, folder=tmp_path)


def test_a_stream_that_has_more_tasks_by_now_goes_on_with_those(tmp_path: Path) -> None:
    strategy, whole = method_named("er")(memory=6), network()
    lived = live(whole, stream(), strategy, TRAINING)
    early = replace(stream(), tasks=stream().tasks[:2])
    live(network(), early, strategy, TRAINING, folder=tmp_path)
    model = network()
    later = live(model, stream(), strategy, TRAINING, folder=tmp_path)
    assert all(torch.equal(t, whole.state()[n]) for n, t in model.state().items())
    assert (later.scores[3] == lived.scores[3]).all()
    assert np.isnan(later.scores[:3, 2]).all()
    kept = lived.measures()
    assert {n: v for n, v in later.measures().items() if n != "forward_transfer"} == {
        n: v for n, v in kept.items() if n != "forward_transfer"
    }


def test_what_was_put_in_is_taken_out_however_a_run_ends() -> None:
    model = network()
    names, modes = model.state().keys(), [layer.training for layer in model.module.modules()]
    with pytest.raises(Diverged):
        fit(model, LOW_RANK, {"new": rows(8)}, replace(TRAINING, steps=60, lr=1e12))
    assert model.state().keys() == names
    assert [layer.training for layer in model.module.modules()] == modes
    with pytest.raises(RegraftError, match="no rows named 'old'"):
        fit(model, LOW_RANK + Plan((Feed("old", shuffled("old"), 0.5),)), {"new": rows(8)}, TRAINING)
    assert model.state().keys() == names


def test_weights_that_diverge_in_the_last_step_are_no_result() -> None:
    with pytest.raises(Diverged, match="stopped being finite"):
        fit(
            network(),
            Plan((Feed("new", shuffled()),), (Weighted(nll()),)),
            {"new": rows(8)},
            replace(TRAINING, lr=1e300),
        )
    broken = network()
    nn.init.constant_(broken.module[0].weight, torch.nan)
    with pytest.raises(Diverged, match="the answers to a test are not numbers"):
        live(broken, stream(), Strategy(), TRAINING)


def test_what_the_user_froze_stays() -> None:
    bare = network().module
    bare[0].requires_grad_(False)
    model, kept = Classifier(bare), bare[0].weight.clone()
    model.module.eval()
    live(model, stream(), Strategy(), TRAINING)
    assert torch.equal(bare[0].weight, kept)
    assert not bare[0].weight.requires_grad
    assert bare[2].weight.requires_grad
    assert not bare.training


def test_a_head_may_be_wider_than_the_stream_and_not_narrower() -> None:
    for told in (False, True):
        assert live(network(9), stream(told=told), Strategy(), TRAINING).scores.shape == (4, 3)
    with pytest.raises(RegraftError, match="answers with 4 classes; the stream has 6"):
        live(network(4), stream(), Strategy(), TRAINING)


@pytest.mark.parametrize("name", ["bic", "icarl", "ncm", "wa"])
def test_a_linear_layer_alone_is_a_classifier(name: str) -> None:
    layer = nn.Linear(WIDTH, CLASSES)
    before = layer.weight.clone()
    live(Classifier(layer), stream(), method_named(name)(), TRAINING)
    assert not torch.equal(layer.weight, before)
    with pytest.raises(RegraftError, match="ticket: the network is a head alone"):
        live(Classifier(layer), stream(), method_named("lt_sft")(), TRAINING)


def test_one_network_may_be_wrapped_twice() -> None:
    bare = network().module
    first = Classifier(bare)
    live(Classifier(bare), stream(), method_named("icarl")(memory=6), TRAINING)
    assert first.head is bare[2]


def test_what_a_stream_refuses() -> None:
    for epochs in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RegraftError, match="it must be over 0"):
            live(network(), stream(), Strategy(), TRAINING, epochs=epochs)
    with pytest.raises(RegraftError, match="batch normalisation cannot train on one row"):
        live(network(CLASSES, nn.BatchNorm1d(8)), stream(), Strategy(), replace(TRAINING, batch=1))
    for weight in (-1.0, float("nan")):
        with pytest.raises(RegraftError, match="it must be 0 or more"):
            method_named("online_ewc")(strength=weight)
    with pytest.raises(RegraftError, match="has no knob 'alfa', which tune names; did you mean 'alpha'"):

        @method(tune={"alfa": (0.1,)})
        def mine(*, alpha: float = 0.1) -> Strategy:
            return Strategy()
