"""Exemplars and what is made of them: herding, quotas, nearest means, distilled sigmoids, heads that are corrected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_continual import CLASSES, close, gradients, network, table, textbook
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.edits.bias_correction import bias_correction, fitted
from regraft.parts.edits.nearest_mean import nearest_mean
from regraft.parts.edits.weight_aligning import weight_aligning
from regraft.parts.gradients.non_negative import non_negative
from regraft.parts.losses.nll import nll
from regraft.parts.losses.one_vs_rest import one_vs_rest
from regraft.parts.samplers.all_but import all_but
from regraft.parts.samplers.exemplars import exemplars, herded, shared_out
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.known_share import known_share
from regraft.strategies.bic import bic

NEW, NLL = Feed("new", shuffled()), (Weighted(nll()),)


def of_classes(rows: Rows, *classes: int) -> Rows:
    found = rows.where(torch.isin(rows["y"], torch.tensor(classes)))
    return found.having(row=torch.arange(found.count))


def left(rows: Rows, memory: dict[str, Any] | None = None, new: Any = None, **knobs: Any) -> dict[str, Any]:
    """What exemplars leave after two steps on rows."""
    plan = Plan((Feed("new", new or shuffled()), Feed("memory", exemplars(**knobs), beside=1.0)), NLL)
    training = Training(steps=2, batch=3, lr=0.01, optimizer="SGD")
    return fit(network(), plan, {"new": rows}, training, memory=memory or {}).memory


# --- the memory ------------------------------------------------------------------------------------------------------


def test_herding_is_the_papers_greedy_choice() -> None:
    phi = F.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    mu, chosen = phi.mean(0), list[int]()
    for k in range(1, 13):
        apart = (mu - (phi + phi[chosen].sum(0)) / k).norm(dim=1)
        apart[chosen] = torch.inf
        chosen.append(int(apart.argmin()))
    assert herded(phi, torch.ones(30).double(), 12).tolist() == chosen
    assert sorted(herded(phi, torch.ones(30).double(), 30).tolist()) == list(range(30))


@pytest.mark.parametrize(
    ("counts", "size", "level"), [([9, 9, 9], 6, [2, 2, 2]), ([1, 9, 9], 9, [1, 4, 4]), ([2, 3], 99, [2, 3])]
)
def test_places_are_shared_out_evenly(counts: list[int], size: int, level: list[int]) -> None:
    assert shared_out(torch.tensor(counts), size, torch.Generator()).tolist() == level


@pytest.mark.parametrize("size", range(1, 14))
def test_every_place_is_used_and_no_class_has_two_more(size: int) -> None:
    counts = torch.tensor([1, 3, 0, 5, 5])
    quota = shared_out(counts, size, torch.Generator().manual_seed(size))
    assert int(quota.sum()) == size
    assert bool((quota <= counts).all())
    cut = quota[counts > quota]
    assert not len(cut) or int(quota.max() - cut.min()) <= 1


@pytest.mark.parametrize("choose", ["herding", "random"])
def test_old_classes_make_room_for_new_ones_and_keep_their_best(choose: str) -> None:
    rows = table(60)
    first = left(of_classes(rows, 0, 1), size=12, choose=choose)
    assert first["exemplars"]["columns"]["y"].tolist() == [0] * 6 + [1] * 6
    then = left(of_classes(rows, 2, 3), {**first, "classes": torch.tensor([0, 1])}, size=12, choose=choose)["exemplars"]
    assert then["columns"]["y"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    best = first["exemplars"]["columns"]["x"]
    assert torch.equal(then["columns"]["x"][:6], torch.cat([best[:3], best[6:9]]))
    assert then["seen"].tolist() == [10, 10, 10, 10]
    again = left(of_classes(rows, 0), {"exemplars": then}, size=8, choose=choose)["exemplars"]
    assert again["seen"].tolist() == [20, 10, 10, 10]
    assert again["columns"]["y"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_an_exemplar_stands_for_the_rows_it_was_chosen_from() -> None:
    old, new = of_classes(table(600), 0), of_classes(table(600, 1), 0)
    share = 0.0
    for seed in range(40):
        held = {"columns": {"x": old["x"][:10], "y": old["y"][:10]}, "classes": torch.tensor([0])}
        memory = {"exemplars": {**held, "seen": torch.tensor([300])}}
        plan = Plan((NEW, Feed("memory", exemplars(8, "random"), beside=1.0)), NLL)
        training = Training(steps=1, batch=3, lr=0.01, optimizer="SGD", seed=seed)
        x = fit(network(), plan, {"new": new}, training, memory=memory).memory["exemplars"]["columns"]["x"]
        share += float((x[:, None] == old["x"][:10]).all(-1).any(1).double().mean()) / 40
    assert 0.55 < share < 0.8  # 300 of 400 rows, without replacement among ten


def test_what_is_held_out_is_read_by_nobody() -> None:
    rows = of_classes(table(60), 0, 1)
    held = exemplars(4, "random", adds="before", key="held")
    memory = left(rows, new=all_but(held), size=99, apart=held)
    kept, out = (memory[key]["columns"]["x"] for key in ("exemplars", "held"))
    assert len(out) == 4
    assert len(kept) == 16
    assert len(torch.cat([kept, out]).unique(dim=0)) == 20
    single = left(rows.take([0, 1]), new=all_but(held), size=9, apart=held)
    assert len(single["held"]["columns"]["x"]) == 2, "rows of a class that was taken whole are learned all the same"


def test_a_training_on_the_memory_alone_and_one_that_finds_it() -> None:
    rows = of_classes(table(60), 0, 1)
    alone = Plan((Feed("memory", exemplars(4, "random", adds="before")),), NLL)
    training = Training(steps=3, batch=6, lr=0.01, optimizer="SGD")
    before = fit(network(), alone, {"new": rows}, training)
    assert before.tokens == 3 * 4, "no more rows are drawn than there are"
    found = Plan((Feed("memory", exemplars(4, adds="never")),), NLL)
    after = fit(network(), found, {"new": rows}, training, memory=before.memory).memory
    assert torch.equal(after["exemplars"]["columns"]["x"], before.memory["exemplars"]["columns"]["x"])


def test_an_exemplar_keeps_what_was_said_of_it_when_it_joined() -> None:
    rows, model, knobs = table(60), network(), {"size": 12, "keep": ("logits",)}
    plan = Plan((NEW, Feed("memory", exemplars(**knobs), beside=1.0)), NLL)
    training = Training(steps=2, batch=3, lr=0.01, optimizer="SGD")
    first = fit(model, plan, {"new": of_classes(rows, 0, 1)}, training).memory
    columns = first["exemplars"]["columns"]
    assert torch.equal(columns["logits"], model.module(columns["x"]).detach())
    then = fit(model, plan, {"new": of_classes(rows, 2, 3)}, training, memory=first).memory["exemplars"]["columns"]
    old = torch.cat([columns["logits"][:3], columns["logits"][6:9]])
    assert torch.equal(then["logits"], torch.cat([old, model.module(then["x"][6:]).detach()]))
    bare = left(of_classes(rows, 0, 1), size=12)
    assert all(torch.equal(bare["exemplars"]["columns"][name], columns[name]) for name in ("x", "y"))
    with pytest.raises(RegraftError, match="keep no logits"):
        left(of_classes(rows, 2, 3), bare, **knobs)


# --- iCaRL -----------------------------------------------------------------------------------------------------------


def test_sigmoids_have_the_textbook_gradient() -> None:
    rows, old = table(12, classes=2), torch.tensor([1, 4])  # 1 comes again
    teacher = network().module

    def loss(net: nn.Module, _: Any) -> Tensor:
        q = F.one_hot(rows["y"], CLASSES).double()
        q[:, 4] = teacher(rows["x"])[:, 4].sigmoid().detach()
        g = net(rows["x"]).sigmoid()
        return -(q * g.log() + (1 - q) * (1 - g).log()).sum(1).mean()

    assert close(gradients(Plan((NEW,), (Weighted(one_vs_rest()),)), rows, {"classes": old}), textbook(loss))


def test_the_head_answers_with_the_nearest_mean_of_exemplars() -> None:
    rows, model = table(40, classes=4), network()
    features = F.normalize(model.module[:2](table(50, 9)["x"]))
    own = F.normalize(model.module[:2](rows["x"]))
    means = F.normalize(torch.stack([own[rows["y"] == c].mean(0) for c in range(4)]))
    nearest = torch.cdist(features, means).argmin(1)
    memory = {"exemplars": {"columns": {"x": rows["x"], "y": rows["y"]}}}
    apply(nearest_mean("cosine", source="exemplars"), model, {"new": table(3)}, memory)
    assert torch.equal(model.module(table(50, 9)["x"]).argmax(1), nearest)


# --- heads that are corrected ----------------------------------------------------------------------------------------


def test_weights_of_new_classes_become_as_long_as_old_ones() -> None:
    model, memory = network(), {"classes": torch.tensor([0, 1, 4])}
    W, b = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    apply(weight_aligning(), model, {"new": of_classes(table(12), 2, 4)}, memory)
    gamma = (W[[0, 1]].norm(dim=1).mean() / W[[2, 4]].norm(dim=1).mean()).item()
    scale = torch.tensor([1, 1, gamma, 1, gamma, 1]).double()
    assert torch.allclose(model.head.weight, scale[:, None] * W, atol=1e-12)
    assert torch.allclose(model.head.bias, scale * b, atol=1e-12)
    first = network()
    apply(weight_aligning(), first, {"new": table(12)}, memory)
    assert torch.equal(first.head.weight, network().head.weight), "no class is old"


def test_two_numbers_that_correct_new_logits() -> None:
    dice = torch.Generator().manual_seed(0)
    o, y = 4 * torch.randn(40, CLASSES, generator=dice, dtype=torch.float64), torch.arange(40) % CLASSES
    new, ridge = torch.tensor([0, 0, 0, 0, 1, 1]).double(), 0.01
    ab = fitted(o, y, new, ridge).requires_grad_(True)
    loss = F.cross_entropy(torch.where(new > 0, ab[0] * o + ab[1], o), y)
    loss = loss + ridge / 2 * ((ab[0] - 1) ** 2 + ab[1] ** 2)
    assert float(torch.autograd.grad(loss, ab)[0].norm()) < 1e-10
    shifted = fitted(o + 3 * new, y, new, 1e-9)
    alpha, beta = fitted(o, y, new, 1e-9)
    assert torch.allclose(shifted, torch.stack([alpha, beta - 3 * alpha]), atol=1e-5)
    certain = fitted(50 * F.one_hot(y, CLASSES).double(), y, new, ridge)
    assert torch.allclose(certain, torch.tensor([1.0, 0.0]).double(), atol=1e-3)


def test_the_correction_is_folded_into_the_head() -> None:
    model, rows = network(), table(24)
    memory = {"classes": torch.tensor([0, 1, 2, 3]), "held": {"columns": {"x": rows["x"], "y": rows["y"]}}}
    o = model.module(rows["x"]).detach()
    apply(bias_correction(), model, {"new": of_classes(rows, 4, 5)}, memory)
    new = torch.tensor([0, 0, 0, 0, 1, 1]).double()
    alpha, beta = fitted(o, rows["y"], new, 0.01)
    assert torch.allclose(model.module(rows["x"]), torch.where(new > 0, alpha * o + beta, o), atol=1e-10)
    before = model.head.weight.clone()
    old_alone = {**memory, "held": {"columns": {"x": rows["x"][:4], "y": rows["y"][:4]}}}
    apply(bias_correction(), model, {"new": of_classes(rows, 4, 5)}, old_alone)
    assert torch.equal(model.head.weight, before)


def test_a_head_stays_without_negative_weights() -> None:
    model, plan = network(), Plan((NEW,), NLL, gradients=(non_negative(),))
    fit(model, plan, {"new": table(12)}, Training(steps=3, batch=4, lr=0.1, optimizer="SGD"))
    assert model.head.weight.detach().min() == 0
    assert model.module[0].weight.detach().min() < 0


def test_distillation_counts_as_much_as_classes_are_known() -> None:
    rows = of_classes(table(24), 3, 4)

    def share(of: str, **memory: Tensor) -> float:
        plan = Plan((NEW,), NLL, lr=known_share(of))  # type: ignore[arg-type]
        training = Training(steps=1, batch=4, lr=1.0, optimizer="SGD", log_every=1)
        return fit(network(), plan, {"new": rows}, training, memory=memory).curve[0]["lr"]

    assert share("old") == 0.0
    assert share("new") == 1.0
    assert share("old", classes=torch.tensor([0, 1, 2, 3])) == pytest.approx(3 / 5)
    assert share("new", classes=torch.tensor([0, 1, 2, 3])) == pytest.approx(2 / 5)


def test_what_cannot_be() -> None:
    rows, small = table(6), Training(steps=1, batch=3, lr=0.1)
    with pytest.raises(RegraftError, match="exemplars: the size is 0"):
        exemplars(0)
    with pytest.raises(RegraftError, match="choose is 'herdng'"):
        exemplars(choose="herdng")  # type: ignore[arg-type]
    with pytest.raises(RegraftError, match="ridge is 0"):
        bias_correction(ridge=0.0)
    with pytest.raises(RegraftError, match="1 of 1 rows of memory are held out"):
        bic(memory=1)
    with pytest.raises(RegraftError, match="column 'name' is not a tensor"):
        left(rows.having(name=list("abcdef")))
    with pytest.raises(RegraftError, match="takes no rows when it begins"):
        fit(network(), Plan((Feed("new", all_but(shuffled())),), NLL), {"new": rows}, small)
    with pytest.raises(RegraftError, match="no rows 'held' were held out"):
        apply(bias_correction(), network(), {"new": rows.take([0])}, {"classes": torch.tensor([3])})
    bare = Classifier(nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, CLASSES, bias=False)).double())
    held = {"held": {"columns": {"x": rows["x"], "y": rows["y"]}}, "classes": torch.tensor([3])}
    with pytest.raises(RegraftError, match="the head has no bias"):
        apply(bias_correction(), bare, {"new": rows.take([0])}, held)
