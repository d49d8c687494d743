"""Weights that a second network makes: against their formulas, what a task keeps, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.fisher import diagonal_fisher
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.hypernet import Chunks, hypernet
from regraft.recipes.strategy import Strategy, live

WIDTH, SGD = 5, {"optimizer": "SGD", "clip": None, "explode": 1e9}
KINDS = [hypernet(recurrent, embedding=3, hidden=4, chunk=7) for recurrent in (True, False)]


def network(*, norm: bool = False) -> Classifier:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Linear(WIDTH, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Tanh(), nn.Linear(6, 3)]
    return Classifier(nn.Sequential(*layers).double())


def table(task: int, count: int = 24) -> Rows:
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(task), dtype=torch.float64)
    y = (x[:, task : task + 3]).argmax(1)
    return Rows({"x": x, "y": y, "row": torch.arange(count), "task": torch.full((count,), task)})


def plan(part: hypernet) -> Plan:
    return Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(part,), gradients=(part,))


def made(part: hypernet, left: dict[str, Any], task: int) -> torch.Tensor:
    """theta by its formula."""
    sizes = left["moments"]["sizes"]
    H = Chunks(part, int(sizes.sum())).double()
    H.load_state_dict(left["phi"])
    mean, scale = (left["moments"][name].repeat_interleave(sizes) for name in ("mean", "scale"))
    return (mean + scale * H(left["embeddings"][str(task)])).detach()


def flat(model: Any) -> torch.Tensor:
    return torch.cat([slot.tensor.detach().flatten() for slot in model.slots()])


@pytest.mark.parametrize("part", KINDS)
def test_the_network_is_what_the_hypernetwork_makes_and_begins_with_the_spread_it_had(part: hypernet) -> None:
    model, first = network(), flat(network())
    still = Training(steps=1, batch=24, lr=1e-30, **SGD)  # type: ignore[arg-type]
    left = fit(model, plan(part), {"new": table(0)}, still).memory["hypernet"]
    assert torch.allclose(flat(model), made(part, left, 0), atol=1e-10)
    assert (flat(model) - first).abs().max() > 0.1, "none of the weights it had is left"
    assert flat(model).std() == pytest.approx(float(first.std()), rel=0.5)
    F_ = diagonal_fisher(model, table(0))
    expected = torch.cat([F_[slot.name].flatten() for slot in model.slots()])
    assert torch.allclose(left["importance"]["0"], expected / expected.mean(), atol=1e-10)


@pytest.mark.parametrize("lookahead", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("recurrent", [True, False])
def test_a_step_follows_the_formula(recurrent: bool, weighted: bool, lookahead: float) -> None:
    part = hypernet(recurrent, 0.7, weighted, embedding=3, hidden=4, chunk=7, lookahead=lookahead)
    memory: dict[str, Any] = {}
    model, rows = network(), table(2)
    for task in (0, 1):
        steps = Training(steps=5, batch=24, lr=0.1, seed=task, **SGD)  # type: ignore[arg-type]
        memory = fit(model, plan(part), {"new": table(task)}, steps, memory=memory).memory
    left = memory["hypernet"]
    one = Training(steps=1, batch=24, lr=0.5, **SGD)  # type: ignore[arg-type]
    quiet = hypernet(recurrent, 0.0, weighted, embedding=3, hidden=4, chunk=7, lookahead=lookahead)
    first = fit(network(), plan(quiet), {"new": rows}, one, memory=memory).memory["hypernet"]
    second = fit(network(), plan(part), {"new": rows}, one, memory=memory).memory["hypernet"]
    phi = left["phi"]
    slope = {name: (phi[name] - first["phi"][name]) / 0.5 for name in phi}  # of the task's own loss
    sizes = left["moments"]["sizes"]
    H = Chunks(part, int(sizes.sum())).double()
    mean, scale = (left["moments"][name].repeat_interleave(sizes) for name in ("mean", "scale"))
    ahead = {name: (p - lookahead * slope[name]).requires_grad_() for name, p in phi.items()}
    total = torch.zeros((), dtype=torch.float64)
    for task in (0, 1):
        theta = mean + scale * functional_call(H, ahead, (left["embeddings"][str(task)],))
        importance = left["importance"][str(task)] if weighted else 1.0
        total = total + (importance * (theta - made(part, left, task)).square()).sum()
    found = torch.autograd.grad(0.7 / 2 * total, list(ahead.values()))
    for name, g in zip(ahead, found, strict=True):
        assert torch.allclose(second["phi"][name], phi[name] - 0.5 * (slope[name] + g), atol=1e-10)
        assert bool(g.abs().sum() > 1e-8) == (lookahead > 0), "without looking ahead the first step feels nothing"
    assert torch.equal(second["embeddings"]["0"], left["embeddings"]["0"])


def test_a_loss_reaches_the_embedding_and_the_hypernetwork_through_the_weights() -> None:
    part, rows = KINDS[0], table(0)
    small, step = 1e-30, 0.5
    start = fit(network(), plan(part), {"new": rows}, Training(steps=1, batch=24, lr=small, **SGD)).memory["hypernet"]  # type: ignore[arg-type]
    after = fit(network(), plan(part), {"new": rows}, Training(steps=1, batch=24, lr=step, **SGD)).memory["hypernet"]  # type: ignore[arg-type]
    sizes = start["moments"]["sizes"]
    H = Chunks(part, int(sizes.sum())).double()
    mean, scale = (start["moments"][name].repeat_interleave(sizes) for name in ("mean", "scale"))
    e = start["embeddings"]["0"].clone().requires_grad_()
    pieces = (mean + scale * functional_call(H, start["phi"], (e,))).split(sizes.tolist())
    net = network()
    weights = {slot.name: t.view_as(slot.tensor) for slot, t in zip(net.slots(), pieces, strict=True)}
    loss = F.cross_entropy(functional_call(net.module, weights, (rows["x"],)), rows["y"])
    [g] = torch.autograd.grad(loss, e)
    assert torch.allclose(after["embeddings"]["0"], start["embeddings"]["0"] - step * g, atol=1e-10)


@pytest.mark.parametrize("norm", [False, True])
def test_each_task_is_answered_by_its_own_weights_and_a_penalty_sees_them(norm: bool) -> None:
    part = hypernet(beta=1.0, embedding=4, hidden=8, chunk=20)
    tasks = [Task.of(str(t), table(t, 120), table(t, 60), torch.arange(3), t) for t in range(3)]
    training = Training(steps=1, batch=16, lr=0.01, optimizer="Adam", clip=None, explode=1e9)
    strategy = Strategy(Plan(trainables=(part,), gradients=(part,)))
    found = live(network(norm=norm), Scenario("told", tuple(tasks)), strategy, training, epochs=20)
    assert (found.scores[-1] > 0.6).all()
    assert found.measures()["forgetting"] < 0.15


def test_what_a_hypernetwork_cannot_do() -> None:
    training = Training(steps=1, batch=8, lr=0.1)
    with pytest.raises(RegraftError, match="beta is -1"):
        hypernet(beta=-1.0)
    with pytest.raises(RegraftError, match="must say in column 'task'"):
        fit(network(), plan(KINDS[0]), {"new": table(0).only("x", "y")}, training)
    memory = fit(network(), plan(KINDS[0]), {"new": table(0)}, training).memory
    with pytest.raises(RegraftError, match="another network or of other knobs"):
        fit(network(), plan(KINDS[1]), {"new": table(1)}, training, memory=memory)
