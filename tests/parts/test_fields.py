"""Binary weights as fields: the layer's moments and the divergence against sums over all weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.fields import FieldLinear, divergence, perceptron
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.field_kl import field_kl
from regraft.parts.samplers.shuffled import shuffled


def test_the_divergence_and_its_gradient_are_the_closed_form() -> None:
    dice = torch.Generator().manual_seed(0)
    theta, prior = (3 * torch.randn(5, 4, generator=dice, dtype=torch.float64) for _ in range(2))
    theta.requires_grad_()
    beta = 1.7
    found = divergence(theta, prior, beta)

    def log_q(field: torch.Tensor, w: float) -> torch.Tensor:
        return (2 * beta * w * field).sigmoid().log()

    expected = sum((log_q(theta, w).exp() * (log_q(theta, w) - log_q(prior, w))).sum() for w in (-1.0, 1.0))
    assert torch.allclose(found, torch.as_tensor(expected), atol=1e-10)
    m = torch.tanh(beta * theta)
    assert torch.allclose(torch.autograd.grad(found, theta)[0], beta**2 * (1 - m**2) * (theta - prior), atol=1e-10)
    far = torch.full((1,), 500.0)
    assert math.isclose(float(divergence(far, -far, 1.0)), 1000.0, rel_tol=1e-6)


def test_a_field_layer_has_the_moments_of_its_weights() -> None:
    torch.manual_seed(0)
    layer = FieldLinear(5, 1, beta=0.8).double()
    theta = layer.weight.detach()[0]
    h = torch.tensor([[0.3, -1.2, 0.0, 2.0, 0.7]], dtype=torch.float64)
    mean = second = 0.0
    for signs in itertools.product((-1.0, 1.0), repeat=5):
        w = torch.tensor(signs, dtype=torch.float64)
        q = float((2 * 0.8 * w * theta).sigmoid().prod())
        z = float(w @ h[0]) / math.sqrt(5)
        mean, second = mean + q * z, second + q * z * z
    drawn = layer(h.expand(200_000, -1)).detach()
    assert abs(float(drawn.mean()) - mean) < 0.01
    assert abs(float(drawn.var()) - (second - mean**2)) < 0.01
    layer.eval()
    layer.answers = "mean"
    assert abs(float(layer(h).detach()) - mean) < 1e-12
    layer.answers = "sign"
    assert abs(float(layer(h).detach()) - float(theta.sign() @ h[0]) / math.sqrt(5)) < 1e-12
    layer.train()(torch.zeros(2, 5, dtype=torch.float64)).sum().backward()
    assert bool(torch.isfinite(layer.weight.grad).all())


def test_the_penalty_is_the_divergence_from_the_last_update_over_its_rows() -> None:
    rows = Rows({"x": torch.randn(9, 4), "y": torch.arange(9) % 3, "row": torch.arange(9)})
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), penalties=(Weighted(field_kl(), 2.0),))
    training = Training(steps=4, batch=9, lr=0.1, optimizer="SGD", clip=None)
    model, alone = (Classifier(perceptron(4, 6, 3, seed=0, beta=1.5)) for _ in range(2))
    left = fit(model, plan, {"new": rows}, training).memory
    fit(alone, Plan(plan.feeds, plan.losses), {"new": rows}, training)
    assert all(torch.equal(t, alone.state()[n]) for n, t in model.state().items()), "absent in a first update"
    assert all(torch.equal(t, model.state()[n]) for n, t in left["field_kl"].items())
    prior = {n: t + 0.3 for n, t in left["field_kl"].items()}
    one = Training(steps=1, batch=9, lr=1.0, optimizer="SGD", clip=None, seed=3)
    start = {n: t.clone() for n, t in model.state().items()}
    fit(model, plan, {"new": rows}, one, memory={"field_kl": prior})
    fit(alone, Plan(plan.feeds, plan.losses), {"new": rows}, one)
    for n, theta in start.items():
        pull = 1.5**2 * (1 - torch.tanh(1.5 * theta) ** 2) * (theta - prior[n])
        assert torch.allclose(alone.state()[n] - model.state()[n], 2.0 * pull / 9, atol=1e-5)
    with pytest.raises(RegraftError, match="no binary weights as fields"):
        fit(Classifier(nn.Sequential(nn.Linear(4, 3))), plan, {"new": rows}, training)
