"""A small perceptron that says of which group a vector is: what routes rows to one of several networks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

RATE, BATCH = 3e-3, 64


def learned_selector(
    x: Tensor, group: Tensor, groups: int, *, hidden: int, steps: int, dice: torch.Generator
) -> dict[str, Tensor]:
    """One hidden layer of ReLU on standardised inputs, trained by Adam on the cross-entropy of the groups.

    Args:
        x: [rows, ...], whatever shape; group: int64 [rows].
    """
    x = x.flatten(1).float()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-6)
    x = (x - mean) / scale
    shapes = {"W1": (hidden, x.shape[1]), "b1": (hidden,), "W2": (groups, hidden), "b2": (groups,)}
    fan = {"W1": x.shape[1], "b1": x.shape[1], "W2": hidden, "b2": hidden}
    found = {
        name: ((torch.rand(shape, generator=dice) * 2 - 1) / math.sqrt(fan[name])).requires_grad_()
        for name, shape in shapes.items()
    }
    optimizer = torch.optim.Adam(found.values(), RATE)
    with torch.enable_grad():
        for _ in range(steps):
            at = torch.randint(len(x), (BATCH,), generator=dice)
            optimizer.zero_grad()
            F.cross_entropy(_scores(found, x[at]), group[at]).backward()
            optimizer.step()
    return {**{name: tensor.detach() for name, tensor in found.items()}, "mean": mean, "scale": scale}


def selected(selector: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The most probable group of each row, int64 [rows]."""
    own = {name: tensor.to(x.device) for name, tensor in selector.items()}
    return _scores(own, (x.flatten(1).float() - own["mean"]) / own["scale"]).argmax(-1)


def _scores(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return F.linear(F.linear(x, w["W1"], w["b1"]).relu(), w["W2"], w["b2"])
