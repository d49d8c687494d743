"""Log-probabilities of the tokens that rows hold, for losses over answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Model, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating

Per: TypeAlias = Literal["row", "token"] | int
"""What a row's sum over its tokens is divided by: their number, and then rows count alike or by their tokens; or a
number."""


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


def check_per(per: Per, part: str) -> None:
    if per not in ("row", "token") and not (isinstance(per, int) and per > 0):
        raise RegraftError(f"{part}: per is {per!r}; it must be 'row', 'token' or a number of tokens")


def summed(each: Tensor, counts: Tensor, per: Per) -> Tensor:
    """The sum of each row's places, as they count, over what `per` says, [rows]."""
    return (each * counts).sum(1) / (per if isinstance(per, int) else counts.sum(1).clamp(min=1.0))


def entropies(view: View, temperature: float = 1.0) -> Tensor:
    """The entropy of what a model says at each target of a batch, in nats, [rows, places]."""
    log_p = view.log_probs if temperature == 1 else (view.logits / temperature).log_softmax(-1)
    H: Tensor = -(log_p.exp() * log_p).sum(-1)
    return H.flatten(1) if H.dim() > 1 else H[:, None]


def log_probs_of(model: Model, rows: Rows, *, temperature: float = 1.0, chunk: int = 64) -> Tensor:
    """Of the targets of rows, as the model stands, in evaluation mode and on the CPU: float32 [rows, places]; 0 where a
    target does not count."""
    return asked(model, rows, lambda view: said(view, temperature).log_probs, chunk)


def entropies_of(model: Model, rows: Rows, *, temperature: float = 1.0, chunk: int = 64) -> Tensor:
    """As `log_probs_of`, the entropies."""
    return asked(model, rows, lambda view: entropies(view, temperature), chunk)


@torch.no_grad()
def asked(
    model: Model,
    rows: Rows,
    value: Callable[[View], Tensor],
    chunk: int,
    others: Mapping[str, Model] | None = None,
) -> Tensor:
    """What `value` says of the places of rows, [rows, places, ...], so many rows at a time: as `log_probs_of`.

    Args:
        others: models that `value` may look at the rows by.
    """
    found = []
    with evaluating(model):
        for piece in rows.chunks(chunk):
            view = View(model, piece.to(model.device), others or {})
            each, counts = value(view), view.out.counts
            if counts is not None:
                nothing = counts.flatten(1) == 0
                each = each.masked_fill(nothing.view(*nothing.shape, *[1] * (each.dim() - 2)), 0.0)
            found.append(each.float().cpu())
    return torch.cat(found)
