"""How two rankings of the same things differ, and how well one tells things apart."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 1024


def inversion_rate(a: Tensor, b: Tensor) -> float:
    """The part of all pairs that `a` and `b`, numbers for the same things, put in opposite orders: the normalised
    inversion rate. Two that are equal in one of them are in no order; without a pair it is 0."""
    n, flipped = len(a), 0
    for start in range(0, n, _ROWS):
        first = slice(start, start + _ROWS)
        signs = [torch.sign(each[first, None] - each[None]) for each in (a.double(), b.double())]
        flipped += int((signs[0] * signs[1] < 0).sum())
    return flipped / (n * (n - 1)) if n > 1 else 0.0


def area(above: Tensor, below: Tensor) -> float:
    """The area under the curve: how often one of `above` is over one of `below`; equal ones count half. NaN where there
    are none."""
    apart = above[:, None] - below[None, :]
    return float((apart > 0).double().mean() + 0.5 * (apart == 0).double().mean())
