"""Tensors by name, and entries of one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regraft.core.parts import Model


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, without a graph: what a part leaves."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def buffers(model: Model) -> dict[str, Tensor]:
    """Copies of the tensors that are no parameters: what normalisation layers remember."""
    parameters = {slot.name for slot in model.slots()}
    return {name: tensor.clone() for name, tensor in model.state().items() if name not in parameters}


def largest(values: Tensor, count: int) -> Tensor:
    """Which entries are the `count` largest, bool, shaped as the values."""
    found = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    found[values.flatten().topk(count).indices] = True
    return found.view(values.shape)
