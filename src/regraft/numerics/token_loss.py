"""Log-probabilities of the tokens that rows hold, for losses over answers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Model, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating


class Said(NamedTuple):
    """`log_probs` of the targets, and how much each `counts`, both [rows, places]; one place where a row has one
    target."""

    log_probs: Tensor
    counts: Tensor


def said(view: View, temperature: float = 1.0) -> Said:
    """What a model says of the targets of a batch; `temperature`: what its logits are divided by."""
    if temperature == 1:
        nll = view.target_nll
    else:
        logits = (view.logits / temperature).flatten(0, -2)
        nll = F.cross_entropy(logits, view.targets.flatten(), reduction="none").view_as(view.targets)
    log_probs = -nll.flatten(1) if nll.dim() > 1 else -nll[:, None]
    counts = view.out.counts
    return Said(log_probs, torch.ones_like(log_probs) if counts is None else counts.to(log_probs).flatten(1))


def column(view: View, name: str, like: Tensor) -> Tensor:
    """A column of numbers for rows or for their places, as [rows, 1] or [rows, places]."""
    values: Tensor = view.rows[name].to(like)
    return values[:, None] if values.dim() == 1 else values.flatten(1)


@torch.no_grad()
def log_probs_of(model: Model, rows: Rows, *, temperature: float = 1.0, chunk: int = 64) -> Tensor:
    """Of the targets of rows, as the model stands, in evaluation mode and on the CPU: float32 [rows, places]; 0 where a
    target does not count."""
    found = []
    with evaluating(model):
        for piece in rows.chunks(chunk):
            log_probs, counts = said(View(model, piece.to(model.device), {}), temperature)
            found.append(log_probs.masked_fill(counts == 0, 0.0).float().cpu())
    return torch.cat(found)
