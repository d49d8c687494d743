"""Weights that are held where they were, by how much each matters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regraft.core.parts import Model, Weights
from regraft.core.rows import Rows
from regraft.numerics.fisher import accumulated_fisher
from regraft.numerics.tensors import on_cpu


def pull(weights: Weights, importance: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> Tensor:
    """sum_i F_i (w_i - w*_i)², over the tensors that have an importance; without any a 0 that asks for no gradient."""
    terms = [(F * (weights[name] - anchor[name]).square()).sum() for name, F in importance.items() if name in weights]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def anchor(model: Model, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w*: the model's weights as they are now, of those tensors that have an importance; on the CPU."""
    return on_cpu({name: w for name, w in model.weights().items() if name in importance})


def fisher_anchor(before: Mapping[str, Tensor], decay: float, model: Model, rows: Rows) -> dict[str, dict[str, Tensor]]:
    """What EWC leaves: F <- decay · F + F(rows), and w*, by tensor; on the CPU."""
    F = accumulated_fisher(before, decay, model, rows)
    return {"F": F, "w": anchor(model, F)}
