"""A head for a preference over the tasks learned so far, drawn from their posteriors. Nothing is trained.

    mixture    q_w = sum_i w_i / m sum_j q_i^j                                  w_i >= 0, sum_i w_i = 1
    average    q_w = N(sum_i w_i / m sum_j mu_i^j, (sum_i w_i / m sum_j sigma_i^j)²)
    mean       theta = sum_i w_i / m sum_j mu_i^j, the mean of both, without a draw

    theta ~ q_w within its highest density region of 1 - alpha: {theta: q_w(theta) >= c}, P(q_w(theta) >= c) = 1 - alpha

c is the alpha-quantile of the density at `draws` points of q_w. Without `w`, all tasks count alike. After a stream,

    apply(preference((0.7, 0.3)), model, {}, lived.memory, seed=0)

writes the head; the same seed gives the same one. A draw of the mixture is a model of one task, chosen at the odds w; a
draw of the average, and its mean, lie between the tasks. Where tasks label the same rows differently, heads that were
trained on each task alone and are averaged by w did better on the seeds that settings are chosen on.

Paper:   "IBCL: Zero-shot Model Generation for Task Trade-offs in Continual Learning" Lu et al. 2023.
         https://arxiv.org/abs/2305.14782
Needs:   in memory what the edit `credal_set` leaves.
Differs: the mixture is the paper's; the average is the authors' code, which draws evenly between two quantiles of each
         weight, at 0.495 and 0.505 for alpha = 0.01: that is almost the mean, which is ours to name.
Tags:    variational, exemplar-free, weight editing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.features import head_name
from regraft.numerics.mean_field import Gaussians, drawn, log_density

CHUNK = 1 << 22
"""So many numbers are drawn at a time."""


@dataclass(frozen=True)
class preference:
    w: tuple[float, ...] = ()
    alpha: float = 0.01
    combine: Literal["mixture", "average", "mean"] = "mixture"
    draws: int = 1000

    def __post_init__(self) -> None:
        if self.combine not in ("mixture", "average", "mean"):
            raise RegraftError(f"preference: combine is {self.combine!r}; it must be 'mixture', 'average' or 'mean'")
        if not 0 <= self.alpha < 1:
            raise RegraftError(f"preference: alpha is {self.alpha}; it must be at least 0 and under 1")
        if self.draws < 1:
            raise RegraftError(f"preference: draws is {self.draws}; it must be at least 1")
        if self.w and (min(self.w) < 0 or abs(sum(self.w) - 1) > 1e-6):
            raise RegraftError(f"preference: w is {self.w}; it must be 0 or more each, and 1 together")

    def begin(self, ctx: Context) -> _Preference:
        return _Preference(self, ctx)


class _Preference:
    def __init__(self, part: preference, ctx: Context) -> None:
        self.part, self.dice = part, ctx.rng
        self.head = head_name(ctx.models["student"], "preference")
        if (left := ctx.memory.get("credal_set")) is None:
            raise RegraftError("preference: no posteriors are in memory", do="Learn the tasks by ibcl")
        tasks = left["tasks"]
        w = part.w or [1 / len(tasks)] * len(tasks)
        if len(w) != len(tasks):
            raise RegraftError(f"preference: w has {len(w)} weights; {len(tasks)} tasks were learned")
        self.weights = torch.zeros(len(left["mu"]), dtype=torch.float64)
        for share, members in zip(w, tasks, strict=True):
            for member in members:
                self.weights[member] += share / len(members)
        self.q = Gaussians(left["mu"].double(), left["sigma"].double())
        if part.combine != "mixture":
            self.q = Gaussians(*((self.weights @ t)[None] for t in self.q))
            self.weights = torch.ones(1, dtype=torch.float64)

    def edit(self, weights: Weights) -> Weights:
        own = {name: weights[name] for name in (f"{self.head}.weight", f"{self.head}.bias") if name in weights}
        sizes = [tensor.numel() for tensor in own.values()]
        if sum(sizes) != self.q.mu.shape[1]:
            raise RegraftError(f"preference: the memory is of {self.q.mu.shape[1]} weights; the head has {sum(sizes)}")
        theta = self.q.mu[0] if self.part.combine == "mean" else self._inside()
        pieces = theta.split(sizes)
        return {name: piece.view_as(t).to(t) for (name, t), piece in zip(own.items(), pieces, strict=True)}

    def _inside(self) -> Tensor:
        """A point of q_w in the region."""
        size = max(1, CHUNK // self.q.mu.shape[1])
        densities = []
        for start in range(0, self.part.draws if self.part.alpha else 0, size):
            points = drawn(min(size, self.part.draws - start), self.q, self.weights, self.dice)
            densities.append(log_density(points, self.q, self.weights))
        c = torch.cat(densities).quantile(self.part.alpha) if densities else torch.tensor(-torch.inf)
        while True:
            theta = drawn(1, self.q, self.weights, self.dice)
            if log_density(theta, self.q, self.weights) >= c:
                return theta[0]
