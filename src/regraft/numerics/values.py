"""Values: what a linear head says of the places of a row, of what is still to come."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.numerics.features import last_layer

VALUE_HEAD = "value_head"
"""The name of the head in memory and in the last layer, where part `value_head` puts it."""


def values(view: View, part: str) -> Tensor:
    """V of every place, [rows, places], one place where a row has one target; `part` is who asks.

    Raises RegraftError where there is no value head.
    """
    head: nn.Module | None = getattr(last_layer(view.model, part), VALUE_HEAD, None)
    if head is None:
        raise RegraftError(
            f"{part}: the network has no value head", do="Put value_head() among the trainables of the plan"
        )
    V: Tensor = head(view.features)
    return V if V.dim() == 2 else V.squeeze(-1)


def discounted(delta: Tensor, counts: Tensor, by: float) -> Tensor:
    """sum_l by^l delta_{t+l} over the places from t on that count, [rows, places]; 0 in places that do not count.

    Args:
        counts: bool; places that do not count are as if they were not there.
    """
    total, sums = delta.new_zeros(len(delta)), torch.zeros_like(delta)
    for t in reversed(range(delta.shape[1])):
        total = torch.where(counts[:, t], delta[:, t] + by * total, total)
        sums[:, t] = total
    return sums.masked_fill(~counts, 0.0)


def following(values: Tensor, counts: Tensor) -> Tensor:
    """What is at the next place that counts, [rows, places]; 0 after the last."""
    found, after = torch.zeros_like(values), values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        found[:, t] = after
        after = torch.where(counts[:, t], values[:, t], after)
    return found
