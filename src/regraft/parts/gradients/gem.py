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
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss
from regraft.core.rows import Rows
from regraft.numerics.mixture import values


@dataclass(frozen=True)
class gem:
    loss: Loss
    size: int = 200
    gamma: float = 0.5
    source: str = "new"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RegraftError(f"gem: the size is {self.size}; it must be at least 1")
        if not 0 <= self.gamma < float("inf"):
            raise RegraftError(f"gem: gamma is {self.gamma}; it must be 0 or more")

    def begin(self, ctx: Context) -> _GEM:
        return _GEM(self, ctx)


class _GEM:
    def __init__(self, part: gem, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        left: Mapping[str, Mapping[str, Tensor]] = ctx.memory.get("gem", {})
        self.kept = {task: Rows(dict(columns)) for task, columns in left.items()}
        self.now = self._now()

    def _now(self) -> str:
        rows = self.ctx.rows(self.part.source)
        if "task" not in rows:
            return str(len(self.kept))
        said = torch.as_tensor(values(rows, "task")).unique().tolist()
        if len(said) != 1:
            raise RegraftError(f"gem: the rows {self.part.source!r} are of the tasks {said}, not of one")
        return str(said[0])

    def update(self, grads: Grads) -> Grads:
        past = [self.ctx.gradient(rows, self.part.loss) for task, rows in self.kept.items() if task != self.now]
        against = np.array([_dot(grads, g) for g in past])
        if not len(past) or against.min() >= 0:
            return grads
        inner = np.array([[_dot(a, b) for b in past] for a in past])
        v = dual(inner, against, self.part.gamma)
        return {
            name: g + sum(float(weight) * own[name] for weight, own in zip(v, past, strict=True) if name in own)
            for name, g in grads.items()
        }

    def leave(self) -> Mapping[str, Any]:
        tasks = [*(task for task in self.kept if task != self.now), self.now]
        each, more = divmod(self.part.size, len(tasks))
        left = {}
        for place, task in enumerate(tasks):
            count = each + (place < more)
            rows = self.kept.get(task, Rows({}))
            if task == self.now:
                rows = self._some(Rows.join([rows, self._some(self._source(), count)]), count)
            if count:
                left[task] = {name: rows[name][:count].clone() for name in rows}
        return {"gem": left}

    def _source(self) -> Rows:
        rows = self.ctx.rows(self.part.source)
        return rows.only(*(name for name in rows if name != "row"))

    def _some(self, rows: Rows, count: int) -> Rows:
        """Random rows, in memory."""
        taken = rows.take(torch.randperm(rows.count, generator=self.ctx.rng)[:count])
        if foreign := [name for name, column in taken.items() if not isinstance(column, Tensor)]:
            raise RegraftError(f"gem: column {foreign[0]!r} is not a tensor, so it cannot be kept")
        return taken


def dual(inner: NDArray[np.float64], against: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """argmin_{v >= gamma} 1/2 vᵀ K v + bᵀ v, for K = `inner`, positive semidefinite, and b = `against` in its range."""
    size, basis = np.linalg.eigh(inner)
    real = size > size.max() * len(size) * np.finfo(np.float64).eps
    root = np.sqrt(size[real])
    target = -basis[:, real].T @ (against + gamma * inner.sum(1)) / root
    found: NDArray[np.float64] = nnls(root[:, None] * basis[:, real].T, target)[0]
    return gamma + found


def _dot(a: Grads, b: Grads) -> float:
    return float(sum(float((g * b[name]).sum(dtype=torch.float64)) for name, g in a.items() if name in b))
