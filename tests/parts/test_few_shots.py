"""Tricks for classes of a few rows, each against its formula; without any, class means under a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import few_shot as thinned
from regraft.data.scenario import split_classes
from regraft.engine.edits import apply, still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.edits.simplex import corners, simplex
from regraft.parts.losses.cosine import cosine
from regraft.parts.losses.rotation import rotation
from regraft.parts.losses.supcon import supcon
from regraft.parts.samplers.instances import instances
from regraft.parts.samplers.pseudo_classes import pseudo_classes, turned
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.trainables.subnet import subnet
from regraft.recipes.strategy import Strategy, live, method_named
from regraft.worlds import few_shots

SIDE, CLASSES = 3, 5
TRAINING = Training(steps=6, batch=4, lr=0.1, optimizer="SGD", clip=None)


def table(count: int, seed: int = 0, classes: int = CLASSES) -> Rows:
    x = torch.randn(count, SIDE * SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Rows({"x": x, "y": torch.arange(count) % classes, "row": torch.arange(count)})


def network() -> Classifier:
    torch.manual_seed(1)
    body = [nn.Linear(SIDE * SIDE, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 4)]
    return Classifier(nn.Sequential(*body, nn.Linear(4, CLASSES)).double())


def context(rows: Rows, model: Classifier | None = None, memory: dict[str, Any] | None = None) -> Context:
    return still({"student": model or network()}, {"new": rows}, memory or {}, name="test", seed=0)


def weights(model: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state().items()}


# --- pre-assigned prototypes


@pytest.mark.parametrize(("count", "width"), [(2, 1), (5, 4), (6, 9)])
def test_corners_have_length_one_and_equal_angles(count: int, width: int) -> None:
    E = corners(count, width, torch.Generator().manual_seed(0))
    expected = torch.full((count, count), -1 / (count - 1)).double().fill_diagonal_(1.0)
    assert torch.allclose(E @ E.T, expected, atol=1e-10)
    with pytest.raises(RegraftError, match="have no equal angles"):
        corners(count, count - 2, torch.Generator())


def test_corners_are_given_once_and_best_to_the_classes_that_come_together() -> None:
    from itertools import permutations

    model, first, then = network(), table(12, classes=3), table(8, 1)
    memory = apply(simplex(), model, {"new": first}, {})
    E, of = memory["simplex"]["corners"], memory["simplex"]["of"]
    assert (of >= 0).tolist() == [True, True, True, False, False]
    phi = F.normalize(network().module[:-1].eval()(first["x"]).detach())  # type: ignore[index]
    mu = F.normalize(torch.stack([phi[first["y"] == c].mean(0) for c in range(3)]))
    best = max(float((mu * E[list(p)]).sum()) for p in permutations(range(CLASSES), 3))
    assert abs(float((mu * E[of[:3]]).sum()) - best) < 1e-10
    assert torch.equal(model.head.weight[:3].detach(), E[of[:3]])
    held = model.head.weight.detach()
    assert torch.allclose(held @ held.T, E @ E.T, atol=1e-12)  # classes to come have corners too
    assert not bool(model.head.bias.any())
    later = apply(simplex(), model, {"new": then.where(then["y"] >= 3)}, memory)["simplex"]["of"]
    assert torch.equal(later[:3], of[:3])
    assert sorted(later.tolist()) == list(range(CLASSES))


def test_among_the_trainables_it_holds_the_head() -> None:
    model, start = network(), weights(network())
    plan = Plan((Feed("new", shuffled()),), (Weighted(cosine()),), trainables=(simplex(),))
    fit(model, plan, {"new": table(9)}, TRAINING)
    moved = {name for name, tensor in weights(model).items() if not torch.equal(tensor, start[name])}
    assert {"4.weight", "4.bias"}.isdisjoint(moved)
    assert {"0.weight", "3.weight"} <= moved


# --- pseudo-classes, the rotation pretext, rows as classes


def test_a_turned_row_is_of_a_class_of_its_own() -> None:
    rows = table(40)
    drawn = pseudo_classes().begin(context(rows)).draw(40)
    k, at = drawn["quarter"], drawn["row"]
    assert set(k.tolist()) == {0, 1, 2, 3}
    assert sorted(at.tolist()) == list(range(40))
    assert torch.equal(drawn["y"], rows["y"][at] + k * CLASSES)
    for i in range(40):
        image = rows["x"][at[i]].view(SIDE, SIDE).rot90(int(k[i]))
        assert torch.equal(drawn["x"][i].view(SIDE, SIDE), image)
    assert turned(torch.randn(2, 3, 4, 4), torch.tensor([1, 2])).shape == (2, 3, 4, 4)
    for x in (torch.zeros(2, 5), torch.zeros(2, 1, 4, 3)):
        with pytest.raises(RegraftError, match="no square image"):
            turned(x, torch.tensor([0, 1]))


def test_the_pretext_is_a_linear_guess_of_the_quarter() -> None:
    rows = table(6).having(quarter=torch.arange(6) % 4)
    model, ctx = network(), context(table(6))
    run = rotation().begin(ctx)
    run.install(model)
    view = View(model, rows, {})
    A = run.module
    expected = -(view.out.features @ A.weight.T + A.bias).log_softmax(1)[torch.arange(6), rows["quarter"]]  # type: ignore[operator]
    assert torch.allclose(run.loss(view), expected, atol=1e-12)


def test_rows_as_classes_tell_a_sampler_that_follows_what_others_drew() -> None:
    heard: list[Any] = []

    class Follower:
        def begin(self, ctx: Context) -> Any:
            return self

        def follow(self, drawn: Mapping[str, Rows]) -> None:
            heard.append(drawn)

        def draw(self, count: int) -> Rows:
            return Rows({})

    instances(Follower()).begin(context(table(3))).follow({"new": table(2)})
    assert [list(drawn) for drawn in heard] == [["new"]]


def test_rows_as_classes_of_their_own_make_the_loss_that_of_simclr() -> None:
    rows = view_batch(instances(shuffled()), 2).begin(context(table(5))).draw(10)
    assert torch.equal(rows["y"], rows["row"])
    model = network()
    run, view = supcon(T=0.5).begin(context(table(5), model)), View(model, rows, {})
    z = F.normalize(view.out.features)  # type: ignore[arg-type]
    s = (z @ z.T / 0.5).exp().fill_diagonal_(0.0)
    other = torch.arange(10) ^ 1
    assert torch.allclose(run.loss(view), -(s[torch.arange(10), other] / s.sum(1)).log(), atol=1e-10)


# --- a subnetwork


def test_a_subnetwork_of_least_weights_moves_and_is_kept() -> None:
    model, start = network(), weights(network())
    plan = Plan((Feed("new", shuffled()),), (Weighted(cosine()),), trainables=(subnet(0.25),))
    memory = fit(model, plan, {"new": table(9)}, TRAINING).memory
    after = weights(model)
    for name in ("0.weight", "3.weight"):
        M, w = memory["subnet"][name], start[name].abs()
        assert int(M.sum()) == round(0.25 * M.numel())
        assert float(w[M].max()) <= float(w[~M].min())
        assert torch.equal(after[name][~M], start[name][~M])
        assert bool((after[name][M] != start[name][M]).any())
    assert all(torch.equal(after[name], start[name]) for name in start.keys() - {"0.weight", "3.weight"})
    again = fit(model, plan, {"new": table(9, 1)}, TRAINING, memory=memory).memory["subnet"]
    assert all(torch.equal(again[name], M) for name, M in memory["subnet"].items())
    with pytest.raises(RegraftError, match="K is 0"):
        subnet(0)


# --- the stack

OFF = {"contrast": 0.0, "prototypes": False, "pseudo": 0.0, "K": 0.0, "pretrain": 0.0, "pretext": 0.0}


def went(strategy: Strategy) -> tuple[dict[str, Tensor], list[list[float]]]:
    torch.manual_seed(1)
    body = [nn.Linear(SIDE * SIDE, 8), nn.ReLU(), nn.Linear(8, 6)]
    model = Classifier(nn.Sequential(*body, nn.Linear(6, CLASSES)).double())
    stream = thinned(split_classes(table(60), table(20, 1), [[0, 1, 2], [3, 4]]), 2)
    scores = live(model, stream, strategy, TRAINING, epochs=2).scores
    return weights(model), scores.tolist()


def test_without_any_trick_it_is_a_frozen_encoder_with_class_means_bit_for_bit() -> None:
    frozen, scores = went(method_named("ncm")(first=1.0, distance="cosine"))
    ours, own = went(method_named("few_shot")(**OFF, shift=0.0, noise=0.0))
    assert all(torch.equal(frozen[name], ours[name]) for name in frozen)
    assert scores == own


@pytest.mark.parametrize("trick", OFF)
def test_every_trick_acts_alone(trick: str) -> None:
    on = method_named("few_shot").defaults[trick]
    off, _ = went(method_named("few_shot")(**OFF, shift=0.0, noise=0.0))
    ours, _ = went(method_named("few_shot")(**{**OFF, trick: on}, shift=0.0, noise=0.0))
    assert any(not torch.equal(off[name], ours[name]) for name in off)


@pytest.mark.parametrize("kind", few_shots.SIZES)
def test_the_stream_is_a_wide_first_task_and_few_rows_after(kind: Any) -> None:
    stream, (base, ways) = few_shots.stream(100, kind), few_shots.SIZES[kind]
    assert [len(task.classes) for task in stream.tasks] == [base] + [ways] * few_shots.SESSIONS
    counts = [task.train["y"].bincount()[task.classes].unique().tolist() for task in stream.tasks]
    assert counts == [[few_shots.ROWS // base]] + [[few_shots.SHOTS]] * few_shots.SESSIONS
