"""Liquid cells against the equation that they stand for, and a regressor that learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.models.liquid import CfCCell, LTCCell, Recurrent
from regraft.models.regressor import Regressor
from regraft.parts.losses.squared_error import squared_error
from regraft.parts.samplers.shuffled import shuffled


def cell(made: type[LTCCell] | type[CfCCell], **knobs: int) -> LTCCell | CfCCell:
    torch.manual_seed(0)
    return made(3, 5, **knobs).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_the_fused_steps_of_an_ltc_are_one_formula_and_approach_the_equation() -> None:
    one, fine = cell(LTCCell, substeps=1), cell(LTCCell, substeps=4000)
    assert isinstance(one, LTCCell)
    u, x = draw(4, 3), draw(4, 5)

    def f(x: Tensor) -> Tensor:
        return torch.sigmoid(torch.cat([u, x], -1) @ one.f.weight.T + one.f.bias)

    by_hand = (x + 0.7 * f(x) * one.A) / (1 + 0.7 * (1 / one.tau + f(x)))
    assert torch.allclose(one(u, x, 0.7), by_hand, atol=1e-12)

    def slope(x: Tensor) -> Tensor:
        return -(1 / one.tau + f(x)) * x + f(x) * one.A

    y, dt = x, 0.7 / 200
    for _ in range(200):  # Runge and Kutta's fourth order
        a = slope(y)
        b = slope(y + dt / 2 * a)
        c = slope(y + dt / 2 * b)
        y = y + dt / 6 * (a + 2 * b + 2 * c + slope(y + dt * c))
    assert torch.allclose(fine(u, x, 0.7), y, atol=1e-3)
    rested = cell(LTCCell)
    for _ in range(100):
        x = rested(1e3 * u, x, 50.0)
    assert x.abs().max() <= one.A.abs().max()


@torch.no_grad()
def test_the_closed_form_goes_from_one_answer_to_the_other_in_time() -> None:
    closed = cell(CfCCell, hidden=7)
    assert isinstance(closed, CfCCell)
    u, x = draw(4, 3), draw(4, 5)
    read = 1.7159 * torch.tanh(2 / 3 * closed.hidden(torch.cat([u, x], -1)))
    g, h, f = closed.g(read).tanh(), closed.h(read).tanh(), closed.a(read) * 0.7 + closed.c(read)
    assert torch.allclose(closed(u, x, 0.7), torch.sigmoid(-f) * g + (1 - torch.sigmoid(-f)) * h, atol=1e-12)
    late = torch.where(closed.a(read) > 0, h, g)
    assert torch.allclose(closed(u, x, 1e6), late, atol=1e-10)


def test_squared_error_of_numbers_and_of_classes() -> None:
    x, y = draw(6, 3), draw(6, 2)
    model = Regressor(nn.Linear(3, 2).double())
    model.module.weight.data = draw(2, 3)  # type: ignore[assignment, union-attr]
    out = model.module(x)
    run = squared_error().begin(None)  # type: ignore[arg-type]
    values = run.loss(View(model, Rows({"x": x, "y": y}), {}))
    assert torch.allclose(values, ((out - y) ** 2).mean(1), atol=1e-12)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    of_classes = run.loss(View(Classifier(model.module), Rows({"x": x, "y": labels}), {}))
    assert torch.allclose(of_classes, ((out - torch.eye(2).double()[labels]) ** 2).mean(1), atol=1e-12)
    with pytest.raises(RegraftError, match=r"the network predicts \[6, 2\]; column 'y' is \[6\]"):
        model.read(Rows({"x": x, "y": y[:, 0]}))


@pytest.mark.parametrize("made", [LTCCell, CfCCell])
def test_a_liquid_network_learns_a_delay(made: type[LTCCell] | type[CfCCell]) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 4, 1)
    rows = Rows({"x": x, "y": x[:, -2].tanh()})
    model = Regressor(Recurrent(made(1, 16)))
    plan = Plan((Feed("new", shuffled()),), (Weighted(squared_error()),))
    fitted = fit(model, plan, {"new": rows}, Training(steps=300, batch=32, lr=0.02, log_every=50))
    losses = [record["squared_error"] for record in fitted.curve]
    assert losses[-1] < 0.2 * losses[0]


def test_a_cell_without_a_step() -> None:
    with pytest.raises(RegraftError, match="0 sub-steps"):
        LTCCell(1, 2, substeps=0)
