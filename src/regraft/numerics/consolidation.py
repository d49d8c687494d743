"""Weights that are held where they were, by how much each matters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regraft.core.parts import Weights


def pull(weights: Weights, importance: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> Tensor:
    """sum_i F_i (w_i - w*_i)², over the tensors that have an importance; without any a 0 that asks for no gradient."""
    terms = [(F * (weights[name] - anchor[name]).square()).sum() for name, F in importance.items() if name in weights]
    return torch.stack(terms).sum() if terms else torch.zeros(())
