"""Losses of a model on held-out rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import View
from regraft.core.rows import Rows
from regraft.engine.processes import Processes
from regraft.numerics.evaluating import evaluating

BATCH_TOKENS = 8192


@torch.no_grad()
def row_nll(model: Any, rows: Rows) -> tuple[Tensor, Tensor]:
    """Mean negative log-likelihood of each row in nats and what the row weighs, float64 [rows], in evaluation mode."""
    values, weights = [], []
    with evaluating(model):
        each = max(1, BATCH_TOKENS // model.cost(rows.take(slice(0, 1))))
        for start in range(0, rows.count, each):
            view = View(model, rows.take(slice(start, start + each)).to(model.device), {})
            values.append(view.nll.double().cpu())
            weights.append(torch.ones(view.rows.count).double() if view.size is None else view.size.double().cpu())
    return torch.cat(values), torch.cat(weights)


def mean_nll(model: Any, rows: Rows, processes: Processes | None = None) -> float:
    """Mean negative log-likelihood of all counted targets in nats; 0 for no rows. Several processes share the rows."""
    if not rows.count:
        return 0.0
    processes = processes or Processes()
    mine, real = processes.even(rows)
    with processes.evaluating():
        values, weights = (t[:real] for t in row_nll(model, mine))
    total, weight = processes.sum(torch.stack([(values * weights).sum(), weights.sum()])).tolist()
    return float(total / weight) if weight else 0.0
