"""Views: many of one row at once, contrasted, and held to prototypes that follow them; each against its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.edits import apply, still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.edits.unit_prototypes import unit_prototypes
from regraft.parts.losses.prototype import prototype
from regraft.parts.losses.relation import relation
from regraft.parts.losses.supcon import supcon
from regraft.parts.losses.view_agreement import view_agreement
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.transforms.augment import augment

SIDE, CLASSES = 4, 4


def table(count: int, seed: int = 0) -> Rows:
    x = torch.randn(count, SIDE * SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Rows({"x": x, "y": torch.arange(count) % CLASSES, "row": torch.arange(count)})


def network() -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Sequential(nn.Linear(SIDE * SIDE, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double())


def context(rows: Rows, model: Classifier | None = None, memory: dict[str, Any] | None = None) -> Context:
    return still({"student": model or network()}, {"new": rows}, memory or {}, name="test", seed=0)


def value(loss: Any, view: View, ctx: Context) -> float:
    """The pooled mean."""
    run = loss.begin(ctx)
    each, weight = run.loss(view).detach(), run.weight(view)
    return float(each.mean() if weight is None else (each * weight).sum() / weight.sum())


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_an_image_is_shifted_and_turned_as_a_whole() -> None:
    rows = table(3)
    ctx = context(rows)
    assert augment(shift=0.0)(rows, ctx) is rows
    image = torch.zeros(2000, 1, 5, 3)
    image[:, :, 2, 1] = 1.0
    moved = augment(shift=1.0)(Rows({"x": image}), ctx)["x"]
    assert moved.shape == image.shape
    assert torch.allclose(moved.sum((1, 2, 3)), torch.ones(2000), atol=1e-5)  # no mass beyond one pixel
    centre = (moved * torch.arange(5.0)[:, None]).sum((1, 2, 3)) - 2
    assert -1.001 < float(centre.min()) < -0.99
    assert 0.99 < float(centre.max()) < 1.001
    corner = torch.zeros(400, 16, dtype=torch.float64)
    corner[:, 0] = 1.0
    turned = augment(shift=0.0, turn=45.0)(Rows({"x": corner}), ctx)["x"].view(-1, 4, 4)
    assert float(turned[:, 2:, 2:].abs().max()) == 0
    assert not torch.equal(turned[0], turned[1])
    noisy = augment(shift=0.0, noise=0.5)(Rows({"x": torch.zeros(5000, 3)}), ctx)["x"]
    assert abs(float(noisy.std()) - 0.5) < 0.01
    with pytest.raises(RegraftError, match=r"the inputs are \[3\], no image"):
        augment(shift=1.0)(Rows({"x": torch.zeros(2, 3)}), ctx)
    with pytest.raises(RegraftError, match="must be 0 or more"):
        augment(noise=-1.0)(rows, ctx)


# --- many views at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch", "V"), [(12, 4, 4), (7, 5, 3), (1, 3, 2), (10, 3, 4)])
def test_over_v_passes_every_row_is_read_as_often(count: int, batch: int, V: int) -> None:
    rows = table(count)
    run = view_batch(shuffled(), V).begin(context(rows))
    steps = -(-2 * V * count // batch)
    drawn = [run.draw(batch) for _ in range(steps)]
    assert all(d.count == batch for d in drawn)
    read = torch.cat([d["row"] for d in drawn])[: 2 * V * count]
    assert torch.equal(torch.bincount(read), torch.full((count,), 2 * V))
    assert torch.equal(read.view(-1, V), read[::V, None].expand(-1, V))
    assert torch.cat([d["view"] for d in drawn])[: 2 * V].tolist() == list(range(V)) * 2
    groups = torch.cat([d["group"] for d in drawn])
    assert len(groups.unique()) == -(-steps * batch // V)


def test_the_first_view_is_weak_and_what_is_remembered_is_clean() -> None:
    rows = table(8)
    run = view_batch(shuffled(), 4, None, augment(shift=0.0, noise=1.0)).begin(context(rows))
    drawn = run.draw(8)
    assert torch.equal(drawn["clean"], rows["x"][drawn["row"]])
    changed = (drawn["x"] != drawn["clean"]).any(1)
    assert torch.equal(changed, drawn["view"] > 0)
    plan = Plan(
        (
            Feed("new", view_batch(shuffled(), 2, augment(noise=1.0))),
            Feed("memory", view_batch(reservoir(5), 2, augment(noise=1.0)), beside=1.0),
        ),
        (Weighted(view_agreement()),),
    )
    left = fit(network(), plan, {"new": rows}, Training(steps=9, batch=3, lr=0.1)).memory["reservoir"]["columns"]
    assert len(left["clean"]) == len(left["clean"].unique(dim=0)) == 5
    assert bool((left["clean"][:, None] == rows["x"]).all(-1).any(1).all())
    with pytest.raises(RegraftError, match="V is 0"):
        view_batch(shuffled(), 0)


def test_a_row_of_several_views_is_remembered_as_any_other() -> None:
    kept = torch.zeros(24)
    plan = Plan(
        (Feed("new", view_batch(shuffled(), 4)), Feed("memory", reservoir(6), beside=0.0)), (Weighted(supcon()),)
    )
    for seed in range(200):
        training = Training(steps=24, batch=4, lr=0.01, optimizer="SGD", seed=seed)
        x = fit(network(), plan, {"new": table(24)}, training).memory["reservoir"]["columns"]["x"]
        kept[(x[:, None] == table(24)["x"]).all(-1).int().argmax(1)] += 1
    # One pass of four views: 200 draws at about 6/24, and a row that comes late has its chance
    assert float(kept[:].min()) > 20


def test_views_agree_with_the_first_one() -> None:
    model = network()
    rows = view_batch(shuffled(), 3, None, augment(shift=0.0, noise=1.0)).begin(context(table(4))).draw(11)
    cut = rows.take(slice(2, 11))  # begins with the last view of a row whose first one is not there
    p = model.read(cut).logits.detach().log_softmax(-1)
    pairs = [(1, 2), (1, 3), (4, 5), (4, 6), (7, 8)]
    expected = sum(float((p[a].exp() * (p[a] - p[b])).sum()) for a, b in pairs) / len(pairs)
    found = value(view_agreement(), View(model, cut, {}), context(cut))
    assert abs(found - expected) < 1e-12
    view = View(model, cut, {})
    view.logits.retain_grad()
    run = view_agreement().begin(context(cut))
    (run.loss(view) * run.weight(view)).sum().backward()
    assert view.logits.grad is not None
    assert not view.logits.grad[[0, 1, 4, 7]].any()
    assert bool(view.logits.grad[[2, 3, 5, 6, 8]].any(1).all())


# --- contrast and prototypes -----------------------------------------------------------------------------------------


def test_supcon_is_the_mean_over_the_other_rows_of_a_class() -> None:
    model, rows, T = network(), table(6), 0.5  # classes 0 1 2 3 0 1: rows 2 and 3 are alone
    view = View(model, rows, {})
    f = view.out.features
    assert f is not None
    z = F.normalize(f, dim=1)

    def one(i: int, p: int) -> Tensor:
        others = [a for a in range(6) if a != i]
        return (z[others] @ z[i] / T).logsumexp(0) - z[i] @ z[p] / T

    expected = (one(0, 4) + one(4, 0) + one(1, 5) + one(5, 1)) / 4
    assert abs(value(supcon(T), view, context(rows)) - float(expected.detach())) < 1e-12
    alone = View(model, rows.take([2]), {})
    run = supcon(T).begin(context(rows))
    run.loss(alone).sum().backward()
    assert float(run.weight(alone).sum()) == 0
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.module.parameters() if p.grad is not None)


def test_the_projector_learns_beside_the_head_and_is_left() -> None:
    model, rows, contrast = network(), table(12), supcon(width=3)
    head = model.head.weight.detach().clone()
    plan = Plan((Feed("new", shuffled()),), (Weighted(contrast),), trainables=(contrast,))
    training = Training(steps=3, batch=12, lr=0.1, optimizer="SGD", clip=None)
    first = fit(model, plan, {"new": rows}, training).memory
    assert {n: list(t.shape) for n, t in first["supcon"].items()} == {
        "0.weight": [6, 6],
        "0.bias": [6],
        "2.weight": [3, 6],
        "2.bias": [3],
    }
    assert [n for n, _ in model.module.named_modules()] == [n for n, _ in network().module.named_modules()]
    assert torch.equal(model.head.weight, head)
    still_lr = Training(steps=1, batch=12, lr=1e-30, optimizer="SGD", clip=None)
    again = fit(model, plan, {"new": rows}, still_lr, memory=first).memory
    assert all(torch.equal(again["supcon"][n], t) for n, t in first["supcon"].items())


def test_prototypes_move_and_features_do_not() -> None:
    model, rows = network(), table(8)
    view = View(model, rows, {})
    run = prototype().begin(context(rows))
    each = run.loss(view)
    f, p = view.out.features, model.head.weight
    assert f is not None
    expected = 1 - (f * p[rows["y"]]).sum(1) / f.norm(dim=1) / p[rows["y"]].norm(dim=1)
    assert torch.allclose(each, expected, atol=1e-12)
    each.sum().backward()
    assert model.module[0].weight.grad is None
    assert bool(p.grad.any())
    cosines = F.normalize(f, dim=1) @ F.normalize(p, dim=1).T
    apply(unit_prototypes(), model, {"new": rows}, {})
    assert torch.equal(model.read(rows).logits.argmax(1), cosines.argmax(1))


@pytest.mark.parametrize("over", ["rows", "classes"])
def test_relations_to_old_prototypes_are_kept(over: Any) -> None:
    model, rows = network(), table(12).where(table(12)["y"] > 1)
    memory = {"classes": torch.tensor([0, 1, 2])}  # 2 comes again
    before = model.copy()
    with torch.no_grad():
        model.module[0].weight.add_(0.3 * torch.randn(6, SIDE * SIDE, generator=torch.Generator().manual_seed(5)))
    ctx = still({"student": model, "before": before}, {"new": rows}, memory, name="test", seed=0)

    def near(m: Classifier) -> Tensor:
        f = m.read(rows).features
        assert f is not None
        return (F.normalize(f, dim=1) @ F.normalize(m.head.weight[:2], dim=1).T) / 0.2

    dim = 0 if over == "rows" else 1
    cross = -(near(before).softmax(dim) * near(model).log_softmax(dim)).sum(dim).mean()
    found = value(relation(0.2, over), View(model, rows, {"before": before}), ctx)
    assert abs(found - float(cross.detach())) < 1e-12
    nothing = relation().begin(context(rows, model))
    assert not nothing.loss(View(model, rows, {})).any()
    with pytest.raises(RegraftError, match="T is 0"):
        relation(0.0)
