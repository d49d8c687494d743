"""On a network that was pretrained: class means, class Gaussians and a slow body, each against its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import split_classes
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.features import Moments, moments
from regraft.parts.edits.class_gaussians import class_gaussians
from regraft.parts.edits.nearest_mean import nearest_mean
from regraft.parts.losses.logit_norm import logit_norm
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.gaussians import gaussians
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Stage, Strategy, live, method_named
from regraft.worlds import splits

CLASSES, WIDTH = 5, 4
PLAIN = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
STREAM = Training(steps=1, batch=7, lr=0.1, optimizer="SGD", clip=None)


def table(count: int, seed: int = 0, classes: int = CLASSES) -> Rows:
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Rows({"x": x, "y": torch.arange(count) % classes, "row": torch.arange(count)})


def network(*, bias: bool = True) -> Classifier:
    torch.manual_seed(1)
    body = [nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh()]
    return Classifier(nn.Sequential(*body, nn.Linear(3, CLASSES, bias=bias)).double())


def features(model: Classifier, rows: Rows) -> Tensor:
    return model.module[:-1].eval()(rows["x"]).detach()  # type: ignore[index]


# --- nearest class mean


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_head_chooses_the_nearest_mean_of_classes_seen(distance: Any) -> None:
    model, rows, test = network(), table(23, classes=4), table(50, 1)  # nothing of the last class is seen
    apply(nearest_mean(distance), model, {"new": rows}, {})
    phi, asked = features(model, rows), features(model, test)
    if distance == "cosine":
        phi, asked = F.normalize(phi), F.normalize(asked)
    mu = torch.stack([phi[rows["y"] == c].mean(0) for c in range(4)])
    expected = torch.cdist(asked, mu if distance == "euclidean" else F.normalize(mu)).argmin(1)
    assert torch.equal(model.read(test).logits.argmax(1), expected)


def test_neither_the_order_of_rows_nor_of_tasks_matters() -> None:
    rows, heads = table(31), []
    for order in (torch.arange(31), torch.arange(31).flip(0), rows["y"].argsort()):
        model, memory = network(), {}
        for piece in rows.take(order).chunks(9):
            memory = apply(nearest_mean(), model, {"new": piece}, memory)
        heads.append(torch.cat([model.head.weight, model.head.bias[:, None]], 1))
    apply(nearest_mean(), model, {"new": rows}, {})
    assert all(torch.allclose(head, torch.cat([model.head.weight, model.head.bias[:, None]], 1)) for head in heads)


def test_what_has_no_nearest_mean() -> None:
    rows = {"new": table(9)}
    with pytest.raises(RegraftError, match="distance is 'l1'"):
        nearest_mean("l1")  # type: ignore[arg-type]
    with pytest.raises(RegraftError, match="5: nearest_mean: the head has no bias"):
        apply(nearest_mean(), network(bias=False), rows, {})
    with pytest.raises(RegraftError, match="class 7 has no output among the head's 5"):
        apply(nearest_mean(), network(), {"new": table(9, classes=8)}, {})
    memory = apply(nearest_mean(), network(), rows, {})
    with pytest.raises(RegraftError, match="earlier updates left means for the distance 'euclidean'"):
        apply(nearest_mean("cosine"), network(), rows, memory)


def test_a_stage_may_belong_to_the_first_task_alone() -> None:
    stream = split_classes(table(40), table(20, 1), CLASSES)
    body = {}
    for first in (1.0, 0.0):
        model = network()
        live(model, stream, method_named("ncm")(first=first), STREAM, epochs=2)
        body[first] = model.module[0].weight
    assert torch.equal(body[0.0], network().module[0].weight)
    alone = network()
    live(alone, split_classes(table(40), table(20, 1), [[0]]), Strategy(), STREAM, epochs=2)
    assert torch.equal(body[1.0], alone.module[0].weight)
    tasks = {kind: [Stage(Plan(), tasks=kind).belongs(i) for i in range(3)] for kind in ("all", "first", "later")}  # type: ignore[arg-type]
    assert tasks == {"all": [True] * 3, "first": [True, False, False], "later": [False, True, True]}


# --- Gaussians of classes


@pytest.mark.parametrize("diagonal", [False, True])
def test_moments_of_pieces_join_to_those_of_all_rows(diagonal: bool) -> None:
    phi, y = torch.randn(41, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64), table(41)["y"]
    whole = moments(phi, y, diagonal=diagonal)
    for c in range(CLASSES):
        covariance = phi[y == c].T.cov()
        assert torch.allclose(whole.covariances[c], covariance.diagonal() if diagonal else covariance, atol=1e-12)
        assert torch.allclose(whole.means[c], phi[y == c].mean(0), atol=1e-12)
    for cut in (1, 3, 20, 40):  # pieces that lack classes, and classes of one row
        parts = [moments(phi[s], y[s], diagonal=diagonal) for s in (slice(0, cut), slice(cut, None))]
        for joined in (parts[0].joined(parts[1]), parts[1].joined(parts[0])):
            assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(joined, whole, strict=True))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_what_is_drawn_has_the_moments_that_were_kept(covariance: Any) -> None:
    model, rows = network(), {"new": table(37)}
    before = {n: t.clone() for n, t in model.state().items()}
    memory = apply(class_gaussians(covariance), model, rows, {})
    assert all(torch.equal(before[n], t) for n, t in model.state().items())
    kept = Moments(**memory["gaussians"])

    class Ctx:
        models, rng = {"student": model}, torch.Generator().manual_seed(0)

    Ctx.memory = memory  # type: ignore[attr-defined]
    drawn = gaussians().begin(Ctx).draw(100_000)  # type: ignore[arg-type]
    found = moments(drawn["features"], drawn["y"], diagonal=covariance == "diagonal")
    assert torch.equal(found.counts, torch.full((CLASSES,), 20_000.0).double())
    assert torch.allclose(found.means, kept.means, atol=0.02)
    assert torch.allclose(found.covariances, kept.covariances.double(), atol=0.02)
    with pytest.raises(RegraftError, match="earlier updates left no"):
        apply(class_gaussians("full" if covariance == "diagonal" else "diagonal"), model, rows, memory)


def test_without_gaussians_there_is_nothing_to_draw() -> None:
    plan = Plan((Feed("gaussians", gaussians()),), (Weighted(nll()),))
    with pytest.raises(RegraftError, match="no rows are left"):
        fit(network(), plan, {"new": table(9)}, STREAM)
    with pytest.raises(RegraftError, match="the ridge is 0"):
        gaussians(0.0)


def test_logits_of_one_length_have_the_textbook_gradient() -> None:
    rows, tau, seen = table(12, classes=2), 0.3, torch.tensor([0, 1, 4])
    model, again = network().module, network()
    for layer in (model, again.module):
        layer[1] = nn.Identity()  # type: ignore[index]
    h = model(rows["x"])[:, seen]
    F.cross_entropy(h / h.norm(dim=1, keepdim=True) / tau, rows["y"]).backward()
    plan = Plan((Feed("new", shuffled()),), (Weighted(logit_norm(tau)),))
    before = {n: t.clone() for n, t in again.state().items()}
    training = Training(steps=1, batch=12, lr=1.0, optimizer="SGD", clip=None)
    fit(again, plan, {"new": rows}, training, memory={"classes": torch.tensor([0, 4])})
    for name, p in model.named_parameters():
        assert torch.allclose(before[name] - again.state()[name], p.grad, atol=1e-10)  # type: ignore[arg-type]
    with pytest.raises(RegraftError, match="tau is 0"):
        logit_norm(0.0)


# --- a slow body


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_all_but_the_head_moves_by_a_fraction(factor: float) -> None:
    rows, models = {"new": table(12)}, (network(), network())
    start = network().state()
    training = Training(steps=1, batch=12, lr=0.5, optimizer="SGD", clip=None)
    fit(models[0], PLAIN, rows, training)
    fit(models[1], PLAIN + Plan(trainables=(slow(factor),)), rows, training)
    plain, slowed = (model.state() for model in models)
    for name, tensor in start.items():
        if "running" in name or "num" in name:
            assert torch.equal(slowed[name], plain[name] if factor else tensor)
        else:
            share = 1.0 if name.startswith("5.") else factor
            assert torch.allclose(slowed[name] - tensor, share * (plain[name] - tensor), atol=1e-12)
            assert factor != 1 or torch.equal(slowed[name], plain[name])
    with pytest.raises(RegraftError, match="the factor is -1"):
        slow(-1.0)
    with pytest.raises(RegraftError, match="slow: the model has no head"):
        fit(Classifier(nn.Flatten()), PLAIN + Plan(trainables=(slow(),)), rows, training)


def test_the_aligned_head_answers_and_is_not_gone_on_with() -> None:
    stream = split_classes(table(60), table(30, 1), [[0, 1], [2, 3, 4]])
    found = []
    for alignment in (1.0, 0.0):
        model = network()
        lived = live(model, stream, method_named("slca")(alignment=alignment, factor=0.5), STREAM, epochs=4)
        found.append((lived, model.state()))
    (aligned, weights), (plain, plain_weights) = found
    assert all(torch.equal(weights[n], plain_weights[n]) for n in weights)
    assert (aligned.scores != plain.scores).any()
    assert set(aligned.memory) == {"classes", "gaussians"}  # no row


def test_beside_a_memory_the_head_learns_what_is_remembered() -> None:
    strategy = method_named("er+slca")(slca__factor=1.0, slca__alignment=0.0)
    found, naive = (splits.lived(each, None, 0, epochs=3)["accuracy"] for each in (strategy, Strategy()))
    assert found > naive + 0.3
