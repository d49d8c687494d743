"""Experts that take turns: when one is left, which one follows, what each keeps, and who answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.selector import learned_selector, selected
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.experts import experts
from regraft.recipes.strategy import Strategy, live

WIDTH, ROWS = 6, 320
TRAINING = Training(steps=1, batch=16, lr=0.1, optimizer="SGD", knobs={"momentum": 0.5}, clip=None, explode=1e9)
PART = experts(most=4, window=100, least=20, size=60, hidden=8, selector_steps=200, bounded=False)


def network(norm: bool = False) -> Classifier:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Linear(WIDTH, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.Tanh(), nn.Linear(8, 2)]
    return Classifier(nn.Sequential(*layers).double())


def table(side: float, count: int = ROWS, seed: int = 0) -> Rows:
    """Two classes; what tells them apart turns around with `side`, as does a number that tells the side."""
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = (x[:, 0] > 0).long() if side > 0 else (x[:, 0] < 0).long()
    x[:, 0] *= 3
    x[:, 1] = side * 3 + x[:, 1] / 10
    return Rows({"x": x, "y": y})


def scenario(*sides: float) -> Scenario:
    return Scenario("sides", tuple(Task.of(str(i), table(s, seed=i), table(s, 20, 9)) for i, s in enumerate(sides)))


def lived(part: experts, *sides: float, norm: bool = False) -> tuple[Any, Any]:
    model = network(norm)
    return model, live(model, scenario(*sides), Strategy(Plan(trainables=(part,))), TRAINING, epochs=8)


@pytest.mark.parametrize("norm", [False, True])
def test_it_opens_an_expert_comes_back_and_leaves_the_others_alone(norm: bool) -> None:
    before, alone = lived(PART, 1.0, norm=norm)
    model, found = lived(PART, 1.0, -1.0, norm=norm)
    left = found.memory["experts"]
    assert [e for _, e in left["turns"]] == [0, 1]
    assert 160 < left["turns"][1][0] <= 163, "the change is found within three batches"
    assert (found.scores[-1] > 0.8).all(), "the selector finds the expert of each row"
    weights = left["weights"]["0"]
    assert weights.keys() == model.state().keys(), "running statistics too"
    moved = max(float((weights[n] - t).abs().max()) for n, t in before.state().items() if t.is_floating_point())
    assert moved < 0.5, "the first expert took no more than the steps before the change was found"
    _, back = lived(PART, 1.0, -1.0, 1.0, norm=norm)
    assert [e for _, e in back.memory["experts"]["turns"]] == [0, 1, 0]
    assert alone.memory["experts"]["used"] == 1


def test_a_new_expert_begins_as_the_network_did_and_unused_ones_do_not_move() -> None:
    model, first = network(), network().state()
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(PART,))
    training = Training(steps=20, batch=8, lr=0.1, optimizer="AdamW", knobs={"weight_decay": 0.1}, clip=None)
    left = fit(model, plan, {"new": table(1.0)}, training).memory["experts"]
    assert all(torch.equal(left["first"][name], tensor) for name, tensor in first.items())
    again = fit(model, plan, {"new": table(-1.0)}, training, memory={"experts": left}).memory["experts"]
    assert again["used"] == 2
    assert all(torch.equal(again["first"][name], tensor) for name, tensor in first.items())


def test_the_limit_is_the_mean_and_three_deviations_of_the_last_losses() -> None:
    from regraft.engine.edits import still

    run = PART.begin(still({"student": network()}, {}, {}, name="test", seed=0))
    for L in range(140):
        run._note(0, float(L))
    last = torch.arange(40.0, 140.0, dtype=torch.float64)
    assert run._limit(0) == pytest.approx(float(last.mean() + 3 * last.std(correction=0)), abs=1e-10)
    run.smoothed[0] = 2.0
    assert run._smoothed(0, 7.0) == pytest.approx(0.2 * 7 + 0.8 * 2, abs=1e-10)


def test_the_sample_is_uniform_over_the_stream() -> None:
    _, found = lived(experts(most=2, size=40, bounded=False, selector_steps=1), *[1.0] * 5)
    sample = found.memory["experts"]["sample"]
    of = [int((sample["x"][:, None] == table(1.0, seed=i)["x"]).all(-1).any(1).sum()) for i in range(5)]
    assert sum(of) == 40
    assert min(of) >= 2


def test_a_selector_learns_groups_from_its_own_dice() -> None:
    x = torch.cat([torch.randn(50, 3, 2) - 2, torch.randn(50, 3, 2) + 2])
    group = torch.arange(100) // 50
    made = [learned_selector(x, group, 2, hidden=8, steps=100, dice=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(made[0]["W1"], made[1]["W1"])
    assert (selected(made[0], x) == group).double().mean() > 0.97


def test_what_experts_cannot_do() -> None:
    with pytest.raises(RegraftError, match="most is 0"):
        experts(most=0)
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(experts(most=2),))
    with pytest.raises(RegraftError, match="memory has 3 of them; most is 2"):
        fit(network(), plan, {"new": table(1.0)}, TRAINING, memory={"experts": {"used": 3}})
    tied = network()
    tied.module[2] = nn.Linear(8, 8).double()
    tied.module.append(nn.Linear(8, 2).double())
    tied.module[2].bias = tied.module[0].bias
    with pytest.raises(RegraftError, match="is in two places"):
        fit(
            tied,
            Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(PART,)),
            {"new": table(1.0)},
            TRAINING,
        )
