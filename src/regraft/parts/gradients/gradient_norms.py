"""The norm of every step's gradient, kept for the next run; the gradient itself passes through untouched.

    G_t = ||g_t||_1     Adam-type optimizers (`norm="l1"`)
    G_t = ||g_t||_2     SGD (`norm="l2"`)

over all tensors that move, before clipping, and as the gradient transforms before it in the plan leave it.

Paper:   "When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement" Defazio et al. 2023. https://arxiv.org/abs/2310.07831
Leaves:  `gradient_norms`: the norm's name and G [steps], float32.
Tags:    diagnostic, learning rate, task-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Stateful


@dataclass(frozen=True)
class gradient_norms:
    norm: Literal["l1", "l2"] = "l1"

    def __post_init__(self) -> None:
        if self.norm not in ("l1", "l2"):
            raise RegraftError(f"gradient_norms: norm is {self.norm!r}; it must be 'l1' or 'l2'")

    def begin(self, ctx: Context) -> _GradientNorms:
        return _GradientNorms(self.norm, ctx.progress().total)


class _GradientNorms(Stateful):
    state = ("G", "step")

    def __init__(self, norm: str, steps: int) -> None:
        self.norm, self.step = norm, 0
        self.G = torch.zeros(steps)

    def update(self, grads: Grads) -> Grads:
        order = {"l1": 1, "l2": 2}[self.norm]
        if grads:
            each = torch.stack([torch.linalg.vector_norm(_at_least_float32(g), order).float() for g in grads.values()])
            # On the gradients' own device: to bring each step's norm to the CPU would make the GPU wait.
            self.G = self.G.to(each.device)
            self.G[self.step] = torch.linalg.vector_norm(each, order)
        self.step += 1
        return grads

    def leave(self) -> Mapping[str, Any]:
        return {"gradient_norms": {"norm": self.norm, "values": self.G[: self.step].cpu().clone()}}


def _at_least_float32(g: Tensor) -> Tensor:
    return g.to(torch.promote_types(g.dtype, torch.float32))
