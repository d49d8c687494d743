"""Inner products of gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.parts import Grads


def dot(a: Grads, b: Grads) -> Tensor:
    """sum_i a_i b_i over the tensors that both have, float64, on their device."""
    each = [(g * b[name]).sum(dtype=torch.float64) for name, g in a.items() if name in b]
    return torch.stack(each).sum() if each else torch.zeros((), dtype=torch.float64)
