"""A context outside of any update, for the transforms and metrics that a claim calls itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, Model, Progress, View
from regraft.core.rows import Rows


def context(
    *, model: Model | None = None, data: Mapping[str, Rows] | None = None, memory: Mapping[str, Any] | None = None
) -> Context:
    """Gradients are those of `model`; there is no step, so `again` and a part's schedules have nothing to give."""

    def gradient(rows: Rows, loss: Loss) -> Grads:
        if model is None:
            raise RegraftError("a gradient was asked for, but there is no model")
        run, view = loss.begin(found), View(model, rows, {})
        values, weight = run.loss(view), run.weight(view)
        mean = values.mean() if weight is None else (values * weight).sum() / weight.sum()
        tensors = {slot.name: slot.tensor for slot in model.slots() if slot.tensor.requires_grad}
        grads = torch.autograd.grad(mean, list(tensors.values()), allow_unused=True)
        return {n: g for n, g in zip(tensors, grads, strict=True) if g is not None}

    def none(*_: Any) -> Any:
        raise RegraftError("there is no update to ask")

    models = {} if model is None else {"student": model}
    found = Context(
        models, data or {}, memory or {}, torch.Generator().manual_seed(0), lambda: Progress(0, 0), none, gradient, none
    )
    return found
