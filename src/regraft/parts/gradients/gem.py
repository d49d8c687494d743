"""Gradient episodic memory: a step may not raise the loss on any earlier task, to first order.

    g <- argmin_h 1/2 ||h - g||²  with  h·g_k >= 0 for every earlier task k        g_k: the gradient on rows kept of k
       = g + sum_k v_k g_k,    v = argmin_{v >= gamma} 1/2 ||g + sum_k v_k g_k||²

where some g·g_k < 0; else g stays. The dual has one unknown a task, and is solved exactly, by active sets. gamma over 0
leans the step towards earlier tasks. `size` rows are kept in all, as many of each task.

Paper:   "Gradient Episodic Memory for Continual Learning" Lopez-Paz and Ranzato 2017. https://arxiv.org/abs/1706.08840
Claim:   when the inputs change and the classes do not, it forgets less than plain training and than A-GEM, at equal
         updates and memory.
Needs:   the rows named by `source`, of which some are kept at the end. A step costs one more gradient for every earlier
         task, on all rows kept of it.
Leaves:  `gem`: the rows kept of each task, by its number; that is in column `task`, or else counts the updates.
Differs: the rows kept of a task are random ones, not its last; with more tasks than `size` the latest keep none.
Tags:    replay, gradient projection
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss
from regraft.numerics.episodic import Episodic
from regraft.numerics.projection import dot


@dataclass(frozen=True)
class gem:
    loss: Loss
    size: int = 200
    gamma: float = 0.5
    source: str = "new"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise RegraftError(f"gem: the size is {self.size}; it must be 0 or more")
        if not 0 <= self.gamma < float("inf"):
            raise RegraftError(f"gem: gamma is {self.gamma}; it must be 0 or more")

    def begin(self, ctx: Context) -> _GEM:
        ctx.begin(self.loss)
        return _GEM(self, ctx)


class _GEM:
    def __init__(self, part: gem, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.memory = Episodic(ctx, "gem", part.size, part.source)

    def update(self, grads: Grads) -> Grads:
        past = [self.ctx.gradient(rows, self.part.loss) for rows in self.memory.past]
        if not past:
            return grads
        each = [grads, *past]
        K = torch.stack([dot(a, b) for a in each for b in each]).view(len(each), -1).cpu().numpy()
        if K[0, 1:].min() >= 0:
            return grads
        v = dual(K[1:, 1:], K[0, 1:], self.part.gamma)
        return {
            name: g + sum(float(weight) * own[name] for weight, own in zip(v, past, strict=True) if name in own)
            for name, g in grads.items()
        }

    def leave(self) -> Mapping[str, Any]:
        return {"gem": self.memory.left()}


def dual(inner: NDArray[np.float64], against: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """argmin_{v >= gamma} 1/2 vᵀ K v + bᵀ v, for K = `inner`, positive semidefinite, and b = `against` in its range."""
    size, basis = np.linalg.eigh(inner)
    real = size > size.max() * len(size) * np.finfo(np.float64).eps
    root = np.sqrt(size[real])
    target = -basis[:, real].T @ (against + gamma * inner.sum(1)) / root
    found: NDArray[np.float64] = nnls(root[:, None] * basis[:, real].T, target)[0]
    return gamma + found
