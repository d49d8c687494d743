"""How much every weight matters, from the gradient of every row by itself.

    1/R sum_r m(d v_r / d w_i)        v_r: a value of row r, m: |.| or (.)²
    F_i = 1/R sum_r (d log p(y_r | x_r) / d w_i)²        the diagonal of the Fisher information

The measure of the gradient of a batch's mean is something else: it depends on the batch's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from regraft.core.errors import RegraftError
from regraft.core.parts import Model, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating

CHUNK_NUMBERS = 1 << 25
"""Numbers of row-wise gradients that are held at a time."""

Value: TypeAlias = Callable[[View], Tensor]
"""One number per row, [rows]."""

Measure: TypeAlias = Callable[[Tensor], Tensor]
"""Elementwise, and of a product the product: torch.abs, torch.square."""


def diagonal_fisher(model: Model, rows: Rows) -> dict[str, Tensor]:
    """F of every floating-point tensor but those of adapters, by name, at the labels of the rows."""
    return importance(model, rows, lambda view: view.nll, torch.square)


def importance(model: Model, rows: Rows, value: Value, measure: Measure) -> dict[str, Tensor]:
    """The mean measure of the rows' own gradients of a value, in evaluation mode; by name, but those of adapters.

    A network of linear layers that each read one vector a row costs what one pass over the rows in training costs: the
    measures of layer inputs and of output gradients are multiplied. Others are differentiated row by row at once
    (torch.func), or one by one where they look at values.
    """
    if not rows:
        raise RegraftError("the importance of weights for the answers of no rows is not defined")
    slots = {s.name: s.tensor for s in model.slots() if s.kind == "base" and s.tensor.is_floating_point()}
    moved = {name: tensor.requires_grad for name, tensor in slots.items()}
    for tensor in slots.values():
        tensor.requires_grad_(True)
    try:
        with evaluating(model):
            total = _by_layers(model, rows, slots, value, measure)
            if total is None and model.vmaps:
                try:
                    total = _by_vmap(model, rows, slots, value, measure)
                except RuntimeError as error:  # the network looks at values
                    if "vmap" not in str(error):
                        raise
            if total is None:
                total = _by_row(model, rows, slots, value, measure)
    finally:
        for name, tensor in slots.items():
            tensor.requires_grad_(moved[name])
    return {name: summed / rows.count for name, summed in total.items()}


def accumulated_fisher(before: Mapping[str, Tensor], decay: float, model: Model, rows: Rows) -> dict[str, Tensor]:
    """F <- decay · F + F(rows), on the CPU; a tensor that `before` does not have begins anew."""
    return accumulated(before, decay, diagonal_fisher(model, rows))


def accumulated(before: Mapping[str, Tensor], decay: float, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """F <- decay · F + found, on the CPU; a tensor that `before` does not have begins anew."""
    return {n: (F + decay * before[n] if n in before else F).cpu() for n, F in found.items()}


def _by_layers(
    model: Model, rows: Rows, slots: Mapping[str, Tensor], value: Value, measure: Measure
) -> dict[str, Tensor] | None:
    """Sums by F_W = m(G)ᵀ m(A), G [rows, out] and A [rows, in]; None for a network that is not so made."""
    names = {id(tensor): name for name, tensor in slots.items()}
    layers = [m for m in model.module.modules() if isinstance(m, nn.Linear)]
    held = [id(p) for layer in layers for p in layer.parameters(recurse=False)]
    if set(held) != set(names) or len(held) != len(set(held)):
        return None
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def keep(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        calls.append((layer, inputs[0].detach(), output))
        return output.clone()  # what comes next may write into it

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    total = {name: torch.zeros_like(tensor) for name, tensor in slots.items()}
    try:
        for chunk in rows.chunks(
            max(1, CHUNK_NUMBERS // sum(layer.in_features + layer.out_features for layer in layers))
        ):
            calls.clear()
            summed = value(View(model, chunk.to(model.device), {})).sum()
            if len(calls) != len(layers) or any(a.dim() != 2 or len(a) != chunk.count for _, a, _ in calls):
                return None
            if not summed.requires_grad:
                raise RegraftError("the answers cannot be differentiated by the weights, so none of them matters")
            gradients = torch.autograd.grad(summed, [output for _, _, output in calls])
            for (layer, a, _), g in zip(calls, gradients, strict=True):
                measured = measure(g)
                total[names[id(layer.weight)]] += measured.T @ measure(a)
                if layer.bias is not None:
                    total[names[id(layer.bias)]] += measured.sum(0)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _by_vmap(
    model: Model, rows: Rows, slots: Mapping[str, Tensor], value: Value, measure: Measure
) -> dict[str, Tensor]:
    reader = _RowValue(model, value)
    names = {id(tensor): name for name, tensor in slots.items()}
    own = {f"module.{name}": p for name, p in model.module.named_parameters() if id(p) in names}
    parameters = {name: p.detach() for name, p in own.items()}
    each = vmap(grad(lambda w, columns: functional_call(reader, w, (columns,))), (None, 0), randomness="error")
    total = {name: torch.zeros_like(tensor) for name, tensor in slots.items()}
    for chunk in rows.chunks(max(1, CHUNK_NUMBERS // sum(p.numel() for p in parameters.values()))):
        columns = {name: column for name, column in chunk.to(model.device).items() if isinstance(column, Tensor)}
        with torch.no_grad():  # what is not differentiated here may still ask for gradients
            gradients = each(parameters, columns)
        for name, p in own.items():
            total[names[id(p)]] += measure(gradients[name]).sum(0)
    return total


def _by_row(model: Model, rows: Rows, slots: Mapping[str, Tensor], value: Value, measure: Measure) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(tensor) for name, tensor in slots.items()}
    for row in rows.chunks(1):
        summed = value(View(model, row.to(model.device), {})).sum()
        for name, g in zip(slots, torch.autograd.grad(summed, list(slots.values()), allow_unused=True), strict=True):
            if g is not None:
                total[name] += measure(g)
    return total


class _RowValue(nn.Module):
    """The value of one row as a function of the network's parameters."""

    def __init__(self, model: Any, value: Value) -> None:
        super().__init__()
        self.module, self._model, self._value = model.module, [model], value

    def forward(self, columns: Mapping[str, Tensor]) -> Tensor:
        row = Rows({name: column[None] for name, column in columns.items()})
        return self._value(View(self._model[0], row, {}))[0]
