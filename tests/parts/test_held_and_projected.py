"""Weights that are held, steps that are projected, rows that are retrieved; each against its formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_continual import CLASSES, TRAINED, WIDTH, close, first_batch, gradients, network, table, textbook
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics import fisher, subspace
from regraft.parts.gradients.cuber import cuber
from regraft.parts.gradients.gem import dual, gem
from regraft.parts.gradients.gpm import gpm
from regraft.parts.losses.cosine import cosine
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.mas import mas
from regraft.parts.penalties.si import si
from regraft.parts.samplers.mir import mir
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled

PLAIN = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
SGD: dict[str, Any] = {"optimizer": "SGD", "clip": None, "explode": 1e9}


def matters(seed: int = 2) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    dice, state = torch.Generator().manual_seed(seed), network().state()
    importance = {n: torch.rand(t.shape, generator=dice, dtype=t.dtype) for n, t in state.items()}
    return importance, {n: torch.randn(t.shape, generator=dice, dtype=t.dtype) for n, t in state.items()}


# --- weights that are held --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mas", "si"])
def test_what_matters_is_held_by_the_textbook_gradient(name: str) -> None:
    rows, (Omega, anchor) = table(12), matters()
    plan = PLAIN + Plan(penalties=(Weighted(mas(), 3.0),))
    if name == "si":
        plan = PLAIN + Plan(penalties=(Weighted(si(), 3.0),), gradients=(si(),))

    def loss(net: nn.Module, w: dict[str, Tensor]) -> Tensor:
        held = sum((Omega[n] * (t - anchor[n]).square()).sum() for n, t in w.items())
        return F.cross_entropy(net(rows["x"]), rows["y"]) + 3.0 * held

    assert close(gradients(plan, rows, {name: {"Omega": Omega, "w": anchor}}), textbook(loss))


@pytest.mark.parametrize("conv", [False, True])
def test_mas_is_sensitivity_of_every_row_by_itself(conv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(7, classes=2)
    model = network(conv=conv)
    plan = PLAIN + Plan(penalties=(Weighted(mas(), 0.5),))
    before = {n: torch.ones_like(t) for n, t in model.state().items()}
    memory = {"mas": {"Omega": before, "w": before}}
    left = fit(model, plan, {"new": rows}, Training(1, 7, 0.01, **SGD), memory=memory).memory["mas"]
    expected = {n: t.clone() for n, t in before.items()}
    for row in rows.chunks(1):
        norm = model.module(row["x"]).square().sum()
        for (n, _), g in zip(
            model.module.named_parameters(), torch.autograd.grad(norm, list(model.module.parameters())), strict=True
        ):
            expected[n] += g.abs() / rows.count
    assert close(left["Omega"], expected)
    assert close(left["w"], dict(model.state()))
    monkeypatch.setattr(fisher, "_by_layers", lambda *_: None)
    model.vmaps = False
    again = fisher.importance(model, rows, lambda v: v.logits.square().sum(1), torch.abs)
    assert close({n: t + 1 for n, t in again.items()}, expected)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_si_is_the_path_integral_of_the_losses_gradient(clip: float | None) -> None:
    rows, c, xi, lr = table(9), 0.7, 0.05, 0.1
    Omega, anchor = matters()
    plan = PLAIN + Plan(penalties=(Weighted(si(xi), c),), gradients=(si(xi),))
    model = network()
    memory = {"si": {"Omega": Omega, "w": anchor}}
    left = fit(model, plan, {"new": rows}, Training(5, 9, lr, **{**SGD, "clip": clip}), memory=memory).memory["si"]
    net = network().module
    w = dict(net.named_parameters())
    start, omega = {n: t.detach().clone() for n, t in w.items()}, {n: torch.zeros_like(t) for n, t in w.items()}
    for _ in range(5):
        g = torch.autograd.grad(F.cross_entropy(net(rows["x"]), rows["y"]), list(w.values()))
        with torch.no_grad():
            whole = [own + 2 * c * Omega[n] * (t - anchor[n]) for (n, t), own in zip(w.items(), g, strict=True)]
            norm = torch.stack([t.norm() for t in whole]).norm()
            factor = 1.0 if clip is None else clip / (norm + 1e-6)
            assert clip is None or norm > clip
            for (n, t), own, step in zip(w.items(), g, whole, strict=True):
                omega[n] += own * lr * factor * step
                t -= lr * factor * step
    expected = {n: (Omega[n] + omega[n] / ((t - start[n]).square() + xi)).clamp(min=0) for n, t in w.items()}
    assert close(left["Omega"], {n: t.detach() for n, t in expected.items()})
    assert close(left["w"], {n: t.detach() for n, t in w.items()})


def test_si_says_that_it_must_see_the_steps() -> None:
    with pytest.raises(RegraftError, match="si does not see the steps"):
        fit(network(), PLAIN + Plan(penalties=(Weighted(si()),)), {"new": table(9)}, Training(3, 4, 0.1))


# --- new rows that teach directions -----------------------------------------------------------------------------------


def test_cosines_have_the_textbook_gradient() -> None:
    rows = table(12)

    def loss(net: nn.Module, w: dict[str, Tensor]) -> Tensor:
        z = net[:2](rows["x"])  # type: ignore[index]
        W = w["2.weight"]
        cosines = (z @ W.T) / (z.norm(dim=1)[:, None] * W.norm(dim=1))
        return F.cross_entropy(7.0 * cosines, rows["y"])

    parts = ("0.weight", "0.bias", "2.weight")
    found = gradients(Plan((Feed("new", shuffled()),), (Weighted(cosine(7.0)),)), rows)
    model = network().module
    w = {n: t for n, t in model.named_parameters() if n in parts}
    expected = dict(zip(parts, torch.autograd.grad(loss(model, w), [w[n] for n in parts]), strict=True))
    assert close(found, expected)
    assert not found["2.bias"].any()
    assert (found["2.weight"] * model[2].weight).sum(1).abs().max() < 1e-12, "lengths stay"


# --- rows that are retrieved ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 9])
def test_the_most_interfered_rows_are_drawn(size: int) -> None:
    old, new = table(9, 3), table(4)
    memory = {"reservoir": {"columns": {"x": old["x"][:size], "y": old["y"][:size]}, "seen": 50}}
    feed = Feed("memory", mir(reservoir(9), nll(), candidates=9 / 4, alpha=0.3), beside=1.0)
    plan = PLAIN + Plan(feeds=(feed,))
    drawn = batches(plan, new, memory)["memory"]
    net = network().module
    w = dict(net.named_parameters())
    g = torch.autograd.grad(F.cross_entropy(net(new["x"]), new["y"]), list(w.values()))
    x, y = old["x"][:size], old["y"][:size]
    with torch.no_grad():
        now = F.cross_entropy(net(x), y, reduction="none")
        for t, own in zip(w.values(), g, strict=True):
            t -= 0.3 * own
        score = F.cross_entropy(net(x), y, reduction="none") - now
    expected = score.topk(min(4, size)).indices
    assert drawn.count == min(4, size)
    assert {tuple(r.tolist()) for r in drawn["x"]} == {tuple(r.tolist()) for r in x[expected]}


def test_looking_ahead_leaves_the_step_as_it_is() -> None:
    old, new = table(4, 3), table(4)
    memory = {"reservoir": {"columns": {"x": old["x"], "y": old["y"]}, "seen": 50}}
    plans = [
        PLAIN + Plan(feeds=(Feed("memory", sampler, beside=0.5),))
        for sampler in (reservoir(4), mir(reservoir(4), nll(), candidates=2.0))
    ]
    two, looked = (gradients(plan, new, memory) for plan in plans)
    assert two.keys() == looked.keys()
    kept = batches(plans[1], new, memory)["memory"]
    assert kept.count == 2
    together = Rows.join([new.only("x", "y"), kept.only("x", "y")])
    assert close(looked, textbook(lambda net, _: F.cross_entropy(net(together["x"]), together["y"])))


def batches(plan: Plan, rows: Rows, memory: dict[str, Any]) -> dict[str, Rows]:
    return {feed: first_batch(plan, rows, memory, feed) for feed in ("new", "memory")}


def test_retrieval_says_what_it_needs() -> None:
    plan = PLAIN + Plan(feeds=(Feed("memory", mir(reservoir(4), nll()), 0.5),))
    with pytest.raises(RegraftError, match="mir is not told what the other feeds drew"):
        fit(network(), plan, {"new": table(9)}, TRAINED)


# --- steps that are projected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_gem_steps_to_the_nearest_point_that_harms_no_task(gamma: float) -> None:
    rows = table(12)
    wrong = rows.having(y=CLASSES - 1 - rows["y"]).only("x", "y")
    three = (wrong.take(slice(0, 6)), table(5, 3), wrong.take(slice(3, 9)))
    tasks = {str(k): {"x": own["x"], "y": own["y"]} for k, own in enumerate(three)}
    found = gradients(PLAIN + Plan(gradients=(gem(nll(), 9, gamma),)), rows, {"gem": tasks})
    g = flat(textbook(lambda net, _: F.cross_entropy(net(rows["x"]), rows["y"])))
    G = torch.stack([flat(textbook(lambda net, _, t=t: F.cross_entropy(net(t["x"]), t["y"]))) for t in tasks.values()])
    assert (G @ g).min() < 0, "tasks are in conflict"
    v = torch.linalg.lstsq(G.T, (flat(found) - g)[:, None]).solution[:, 0]
    slack = G @ flat(found)  # the gradient of the dual in v: Karush, Kuhn and Tucker
    assert torch.allclose(G.T @ v, flat(found) - g, atol=1e-10)
    assert (v >= gamma - 1e-9).all()
    assert (slack >= -1e-10).all()
    assert ((v - gamma) * slack).abs().max() < 1e-9


def test_the_dual_of_tasks_with_one_gradient() -> None:
    g, own = np.array([-1.0, 2.0]), np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 0.0]])
    v = dual(own @ own.T, own @ g, 0.0)
    h = g + v @ own
    assert (own @ h >= -1e-12).all()
    assert np.allclose(h, [0.0, 2.0])


def test_gem_shares_its_rows_among_tasks() -> None:
    memory: dict[str, Any] = {}
    plan = PLAIN + Plan(gradients=(gem(nll(), 5),))
    counts = []
    for seed in range(7):
        memory = fit(network(), plan, {"new": table(9, seed)}, TRAINED, memory=memory).memory
        counts.append([len(columns["y"]) for columns in memory["gem"].values()])
    assert counts == [[5], [3, 2], [2, 2, 1], [2, 1, 1, 1], [1] * 5, [1] * 5, [1] * 5]
    assert "row" not in memory["gem"]["0"]


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[n].flatten() for n in dict(network().module.named_parameters())])


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_projected_steps_leave_old_answers_alone(conv: bool, optimizer: str) -> None:
    model, old, new = network(conv=conv), table(1 if conv else 3, 3), table(12)
    plan = PLAIN + Plan(gradients=(gpm(1.0),))
    trained = Training(20, 12, 0.05, **{**SGD, "optimizer": optimizer})
    memory = fit(model, plan, {"new": old}, trained).memory
    kept, before = model.module(old["x"]).detach(), {n: t.clone() for n, t in model.state().items()}
    memory = fit(model, plan, {"new": new}, trained, memory=memory).memory
    assert torch.allclose(model.module(old["x"]), kept, atol=1e-10)
    moved = {n for n, t in model.state().items() if not torch.equal(t, before[n])}
    assert f"{model.head_name}.weight" in moved
    assert not any(n.endswith("bias") for n in moved)
    for M in memory["gpm"].values():
        assert torch.allclose(M.T @ M, torch.eye(M.shape[1], dtype=M.dtype), atol=1e-10)


@pytest.mark.parametrize("energy", [0.0, 0.6, 0.97, 1.0])
def test_a_basis_is_the_fewest_directions_that_keep_the_energy(energy: float) -> None:
    dice = torch.Generator().manual_seed(3)
    first, R = (torch.randn(8, n, generator=dice, dtype=torch.float64) for n in (2, 6))
    known = subspace.basis(first @ first.T, 1.0)
    M = subspace.basis(R @ R.T, energy, known)
    assert torch.equal(M[:, :2], known)
    assert (M.T @ R).square().sum() >= energy * R.square().sum() * (1 - 1e-12)
    left, sizes, _ = torch.linalg.svd(R - known @ known.T @ R)
    k = M.shape[1] - 2
    assert torch.allclose(M[:, 2:] @ M[:, 2:].T, left[:, :k] @ left[:, :k].T, atol=1e-10)
    fewer = R.square().sum() - sizes[max(k - 1, 0) :].square().sum()
    assert k == 0 or fewer < energy * R.square().sum()


@pytest.mark.parametrize("part", [gpm(0.0), cuber(nll(), 0.0)])
def test_without_energy_nothing_is_held(part: Any) -> None:
    rows, models = table(12), [network(), network()]
    for model, plan in zip(models, (PLAIN, PLAIN + Plan(gradients=(part,))), strict=True):
        memory: dict[str, Any] = {}
        for seed in range(3):
            memory = fit(model, plan, {"new": rows}, replace(TRAINED, seed=seed), memory=memory).memory
    assert all(torch.equal(tensor, models[0].state()[name]) for name, tensor in models[1].state().items())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, padding="same", groups=2),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, dilation=2, groups=4),
        nn.Conv3d(4, 2, 2),
    ],
)
def test_patches_are_what_a_kernel_is_multiplied_with(layer: Any) -> None:
    x = torch.randn(2, 4, *[7] * (layer.weight.dim() - 2))
    vectors = subspace._vectors(layer, x).view(2, layer.groups, -1, layer.weight[0].numel())
    weight = layer.weight.flatten(1).view(layer.groups, -1, vectors.shape[-1])
    answers = torch.einsum("rgpi,goi->rgop", vectors, weight).flatten(1, 2)
    assert torch.allclose(layer(x).flatten(2), answers + layer.bias[:, None], atol=1e-5)


def test_running_statistics_cannot_be_held() -> None:
    model = Classifier(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)).double())
    with pytest.raises(RegraftError, match="gpm: layer '1' keeps running statistics"):
        fit(model, PLAIN + Plan(gradients=(gpm(),)), {"new": table(9)}, TRAINED)


def test_cuber_finds_three_regimes_and_moves_in_one() -> None:
    rows, lam = table(12), 0.3
    g = textbook(lambda net, _: F.cross_entropy(net(rows["x"]), rows["y"]))
    width = {"0.weight": WIDTH, "2.weight": 8}
    main, least = {}, {}
    for name, n in width.items():
        right = torch.linalg.svd(g[name])[2].T
        main[name], least[name] = right[:, :2], right[:, n - 1 :]
    against = {name: -g[name] for name in width}
    past = {"0": (least, g), "1": (main, against), "2": (main, g)}
    tasks = {j: {"basis": S, "gradient": {n: own[n] for n in width}} for j, (S, own) in past.items()}

    def after(kept: list[str], steps: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        model = network()
        left = {"tasks": {str(i): tasks[j] for i, j in enumerate(kept)}, "regimes": {}}
        plan = PLAIN + Plan(gradients=(cuber(nll(), 1.0, hold=lam),))
        done = fit(model, plan, {"new": rows}, Training(steps, 12, 0.1, **SGD), memory={"cuber": left})
        return dict(model.state()), done.memory["cuber"]

    start = network().state()
    moved, left = after(["0", "1", "2"], 2)
    assert left["regimes"] == {"3": {name: {"0": 1, "1": 2, "2": 3} for name in width}}
    for name in width:
        step = moved[name] - start[name]
        assert step.abs().max() > 1e-4
        assert (step @ torch.cat([least[name], main[name]], 1)).abs().max() < 1e-12
        assert torch.equal(moved[name.replace("weight", "bias")], start[name.replace("weight", "bias")])

    moved, _ = after(["2"], 2)  # related alone: nothing is projected, and the second step is held back
    net = network().module
    w = dict(net.named_parameters())
    for _ in range(2):
        held = [(w[n] - start[n]) @ main[n] @ main[n].T for n in width]
        loss = F.cross_entropy(net(rows["x"]), rows["y"]) + lam * sum(h.norm() for h in held if h.any())
        with torch.no_grad():
            for t, own in zip(w.values(), torch.autograd.grad(loss, list(w.values())), strict=True):
                t -= 0.1 * own
    assert close(moved, {n: t.detach() for n, t in w.items()})
