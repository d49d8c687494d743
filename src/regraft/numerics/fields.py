"""Networks of binary weights that are learned as fields.

    Q(w) = e^{beta theta w} / (2 cosh(beta theta)),   w = +-1,   m = tanh(beta theta),   var w = 1 - m²

    z = sum_i m_i h_i / sqrt(N) + e · sqrt(sum_i (1 - m_i²) h_i² / N)        e ~ N(0, 1), one draw a unit and row

What a unit reads is nearly Gaussian when its inputs are many, so that one draw of it replaces a draw of every weight.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.numerics.dice import seeded


class FieldLinear(nn.Linear):
    """A linear layer whose `weight` is theta. It draws in training; in evaluation it answers with the weights' signs.

    Args:
        answers: in evaluation: `sign`, the likeliest binary weights; `mean`, m, the mean of the units' inputs.
    """

    def __init__(
        self, inputs: int, outputs: int, *, beta: float = 1.0, answers: Literal["sign", "mean"] = "sign"
    ) -> None:
        self.beta, self.answers = beta, answers
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def forward(self, h: Tensor) -> Tensor:
        root = math.sqrt(self.in_features)
        if not self.training and self.answers == "sign":
            return F.linear(h, torch.where(self.weight < 0, -1.0, 1.0).to(h)) / root
        m = torch.tanh(self.beta * self.weight)
        mean = F.linear(h, m) / root
        if not self.training:
            return mean
        variance = F.linear(h.square(), 1 - m.square()) / self.in_features
        return mean + variance.clamp(min=torch.finfo(h.dtype).tiny).sqrt() * torch.randn_like(mean)


def divergence(theta: Tensor, prior: Tensor, beta: float) -> Tensor:
    """KL(Q_theta || Q_prior) in nats, summed over the weights; d/d theta = beta² (1 - m²)(theta - prior)."""
    a, b = beta * theta, beta * prior
    return (torch.tanh(a) * (a - b) - _log_cosh(a) + _log_cosh(b)).sum()


def _log_cosh(a: Tensor) -> Tensor:
    return a.abs() + F.softplus(-2 * a.abs()) - math.log(2)


def perceptron(*widths: int, seed: int, beta: float = 1.0, answers: Literal["sign", "mean"] = "sign") -> nn.Sequential:
    """Field layers of the given widths, inputs first, with ReLU between them."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [FieldLinear(inputs, outputs, beta=beta, answers=answers), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
