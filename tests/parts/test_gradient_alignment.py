import math
from dataclasses import replace

import pytest
import torch
from part_world import PLAIN, SETTINGS, context, model, table

from regraft.core.errors import RegraftError
from regraft.core.plan import Plan
from regraft.engine.fit import fit
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.gradient_alignment import alignment, gradient_alignment


def test_by_hand():
    new = {"w": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([4.0])}
    old = {"w": torch.tensor([[1.0, 1.0]]), "b": torch.tensor([-2.0]), "head": torch.tensor([math.sqrt(3.0)])}
    found = alignment(new, old)
    assert found.numbers == pytest.approx({"inner": -5, "cosine": -5 / 15, "norm/new": 5, "norm/old": 3})
    assert found.tables["cosine"] == pytest.approx({"b": -1, "w": 1 / math.sqrt(2)})


def test_a_gradient_with_itself_and_against_itself():
    g = {"a": torch.randn(7), "b": torch.randn(2, 3)}
    assert alignment(g, g).numbers["cosine"] == pytest.approx(1)
    assert alignment(g, {n: -3 * t for n, t in g.items()}).numbers["cosine"] == pytest.approx(-1)


def test_no_gradient_has_no_cosine():
    g, zero = {"a": torch.ones(2)}, {"a": torch.zeros(2)}
    found = alignment(g, zero)
    assert found.numbers == {"inner": 0, "norm/new": math.sqrt(2), "norm/old": 0}
    assert found.tables == {"cosine": {}}
    assert alignment({}, {}).numbers == {"inner": 0, "norm/new": 0, "norm/old": 0}


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(RegraftError, match="gradient of layer is not finite"):
        alignment({"layer": torch.tensor([math.nan])}, {"layer": torch.ones(1)})


def test_empty_rows_are_an_error():
    ctx = context({"new": table(3), "old": table(0)})
    with pytest.raises(RegraftError, match="'old' are empty"):
        gradient_alignment(loss=nll())(None, replace(ctx, gradient=lambda rows, loss: {}))


class _Probe:
    """Measures in every step, and changes nothing."""

    def __init__(self):
        self.found = []

    def begin(self, ctx):
        self.ctx = ctx
        return self

    def update(self, grads):
        self.found.append(gradient_alignment(loss=nll())(None, self.ctx))
        return grads


def test_a_step_along_the_new_gradient_moves_the_old_loss_by_the_inner_product():
    probe, net = _Probe(), model()
    data = {"new": table(9, seed=1), "old": table(5, seed=2)}
    fit(net, PLAIN + Plan(gradients=(probe,)), data, replace(SETTINGS, steps=1))
    numbers = probe.found[0].numbers
    step, start = 1e-6, model()
    before, after = (_moved(start, data, size) for size in (0.0, step))
    assert (before - after) / step == pytest.approx(numbers["inner"], rel=1e-4)
    assert numbers["inner"] == pytest.approx(numbers["cosine"] * numbers["norm/new"] * numbers["norm/old"])


def _moved(net, data, size):
    weights = dict(net.module.named_parameters())

    def loss(rows, at):
        return torch.nn.functional.cross_entropy(torch.func.functional_call(net.module, at, rows["x"]), rows["y"])

    grads = torch.autograd.grad(loss(data["new"], weights), list(weights.values()))
    moved = {n: w - size * g for (n, w), g in zip(weights.items(), grads, strict=True)}
    return float(loss(data["old"], moved).detach())
