"""Sparse networks that tasks have for themselves inside one: what is masked, what is frozen, what is rewired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from part_world import Stop
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.edits import still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.dynamic_sparse import densities, dynamic_sparse

GROW = ["random", "unfired", "gradient", "momentum"]
PLAIN = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
SGD = Training(steps=12, batch=6, lr=0.1, optimizer="SGD", knobs={"momentum": 0.9}, clip=None, log_every=1)


def network() -> Classifier:
    torch.manual_seed(1)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)]
    return Classifier(nn.Sequential(*layers).double())


def rows(task: int, count: int = 24) -> Rows:
    dice = torch.Generator().manual_seed(task)
    x = torch.randn(count, 5, generator=dice, dtype=torch.float64)
    return Rows({"x": x, "y": torch.arange(count) % 3, "row": torch.arange(count), "task": torch.full((count,), task)})


def plan(rewire: bool = True, **knobs: Any) -> Plan:
    part = dynamic_sparse(**{"density": 0.3, "every": 2, **knobs})
    return PLAIN + Plan(trainables=(part,), gradients=(part,) if rewire else ())


def learn(model: Classifier, task: int, memory: Any, which: Plan, **kw: Any) -> dict[str, Any]:
    return fit(model, which, {"new": rows(task)}, SGD, memory=memory, **kw).memory


def answers(model: Classifier, task: int, memory: Any) -> Tensor:
    part = dynamic_sparse(density=0.3)
    model.module.eval()
    with torch.no_grad():
        return part.begin(still({"student": model}, {}, memory, name="answer", seed=0)).answer(rows(task))


@pytest.mark.parametrize("init", ["uniform", "erk"])
@pytest.mark.parametrize("grow", GROW)
def test_no_task_changes_what_another_answers(grow: str, init: str) -> None:
    model, memory, seen = network(), dict[str, Any](), {}
    for task in (0, 1, 2, 0):
        before = {name: tensor.clone() for name, tensor in model.state().items()}
        memory = learn(model, task, memory, plan(grow=grow, init=init))
        masks = memory["dynamic_sparse"]["masks"]
        others = [m for t, m in masks.items() if t != str(task)]
        for name, tensor in model.state().items():
            if name not in masks["0"]:
                assert torch.equal(tensor, before[name]), "what a task owns is in memory"
                continue
            used = torch.stack([m[name] for m in others]).any(0) if others else torch.zeros_like(masks["0"][name])
            still_there = used | ~masks[str(task)][name]
            assert torch.equal(tensor[still_there], before[name][still_there])
            assert not torch.equal(tensor, before[name])
        seen.pop(task, None)
        assert all(torch.equal(answers(model, t, memory), found) for t, found in seen.items())
        seen[task] = answers(model, task, memory)
    shapes = {name: mask.shape for name, mask in masks["0"].items()}
    dense = densities(shapes, 0.3, init)  # type: ignore[arg-type]
    assert all(int(m[name].sum()) == round(dense[name] * m[name].numel()) for m in masks.values() for name in m)


def test_one_step_has_the_textbook_gradient() -> None:
    once = Training(steps=1, batch=24, lr=1.0, optimizer="SGD", clip=None)
    first = fit(network(), plan(), {"new": rows(0)}, once).memory
    model, twin = network(), network()
    start = {name: tensor.clone() for name, tensor in model.state().items()}
    masks = fit(model, plan(), {"new": rows(1)}, once, memory=first).memory["dynamic_sparse"]["masks"]
    w = {name: p.detach().clone().requires_grad_() for name, p in twin.module.named_parameters()}
    sparse = {name: t * masks["1"][name] if name in masks["1"] else t for name, t in w.items()}
    twin.module.train()
    logits = torch.func.functional_call(twin.module, sparse, (rows(1)["x"],))
    F.cross_entropy(logits, rows(1)["y"]).backward()
    for name, mask in masks["1"].items():
        free = mask & ~masks["0"][name]
        assert free.any()
        assert (mask & masks["0"][name]).any()
        expected = torch.where(free, start[name] - w[name].grad, start[name])
        assert torch.allclose(model.state()[name], expected, atol=1e-10)


def test_masks_stay_unless_the_part_is_among_the_gradients_and_connections_begin_at_zero() -> None:
    begun = learn(network(), 0, {}, plan(drop=0.0))["dynamic_sparse"]["masks"]["0"]
    still_there = learn(network(), 0, {}, plan(rewire=False))["dynamic_sparse"]["masks"]["0"]
    assert all(torch.equal(begun[name], still_there[name]) for name in begun)
    training = Training(steps=2, batch=24, lr=1e-300, optimizer="SGD", clip=None)
    model = network()
    start = {name: tensor.clone() for name, tensor in model.state().items()}
    after = fit(model, plan(grow="unfired", drop=0.9), {"new": rows(0)}, training).memory["dynamic_sparse"]["masks"][
        "0"
    ]
    for name, mask in begun.items():
        grown = after[name] & ~mask
        count = int(0.9 / 2 * int(mask.sum()))  # half way: cos(pi / 2) = 0
        assert int(grown.sum()) == int((mask & ~after[name]).sum()) == count
        assert (model.state()[name][grown].abs() < 1e-200).all()
        gone = start[name].abs()[mask & ~after[name]]
        assert gone.max() <= start[name].abs()[mask & after[name]].min()


@pytest.mark.parametrize("grow", GROW)
def test_stopped_between_two_rewirings_it_ends_in_the_same_bits(grow: str, tmp_path: Path) -> None:
    first = network()
    memory = learn(first, 0, {}, plan(grow=grow))

    def begun() -> Classifier:
        model = network()
        model.load(first.state())
        return model

    whole, parts = begun(), begun()
    expected = learn(whole, 1, memory, plan(grow=grow, every=3))

    def stop(record: dict[str, float]) -> None:
        if record["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        learn(begun(), 1, memory, plan(grow=grow, every=3), folder=tmp_path, checkpoint_seconds=0.0, on_record=stop)
    found = learn(parts, 1, memory, plan(grow=grow, every=3), folder=tmp_path)
    assert all(torch.equal(t, parts.state()[name]) for name, t in whole.state().items())
    for name, mask in expected["dynamic_sparse"]["masks"]["1"].items():
        assert torch.equal(mask, found["dynamic_sparse"]["masks"]["1"][name])


def test_layers_are_as_dense_as_they_should_be() -> None:
    shapes = {"a": torch.Size((256, 64)), "b": torch.Size((256, 256)), "c": torch.Size((4, 3, 3, 3))}
    total = sum(shape.numel() for shape in shapes.values())
    for density in (0.05, 0.2, 0.7, 1.0):
        found = densities(shapes, density, "erk")
        assert sum(found[name] * shape.numel() for name, shape in shapes.items()) == pytest.approx(density * total)
        assert max(found.values()) <= 1
        assert densities(shapes, density, "uniform") == dict.fromkeys(shapes, density)
    free = densities({"a": shapes["a"], "b": shapes["b"]}, 0.05, "erk")
    assert free["a"] / free["b"] == pytest.approx((320 / 256 / 64) / (512 / 256 / 256))


def test_what_cannot_be_sparse() -> None:
    head = Classifier(nn.Sequential(nn.Linear(5, 3)).double())
    with pytest.raises(RegraftError, match="no layer that could be masked before its head"):
        fit(head, plan(), {"new": rows(0)}, SGD)
    for knobs, said in (
        ({"density": 0.0}, "the density is 0"),
        ({"drop": 1.0}, "drop is 1"),
        ({"every": 0}, "every is 0"),
    ):
        with pytest.raises(RegraftError, match=said):
            dynamic_sparse(**knobs)  # type: ignore[arg-type]
