"""Nearest class mean: the head is written from the mean features of each class, without training.

    euclidean    argmin_c ||phi - mu_c||      W_c = mu_c                b_c = -||mu_c||² / 2
    cosine       argmax_c cos(phi, mu_c)      W_c = mu_c / ||mu_c||     b_c = 0          mu_c: the mean of phi / ||phi||

Counts and sums are kept, so under a frozen network the result is that of all rows at once, in whatever order they and
the tasks come. A class without rows is never chosen.

Paper:   "A Simple Baseline that Questions the Use of Pretrained-Models in Continual Learning" Janson et al. 2022.
         https://arxiv.org/abs/2210.04428
Needs:   a head with a bias; the rows named by `source`, with classes in column `y`, in the data or in memory, where a
         sampler left them (`exemplars`: in a release, that is iCaRL's nearest mean of exemplars).
Leaves:  `nearest_mean`: counts and sums of features by class, float64.
Differs: the authors' code takes means of normalised features and does not normalise these again; `cosine` does, as a
         linear head cannot divide by ||phi||.
Tags:    exemplar-free, pretrained, task-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Weights
from regraft.core.rows import Rows
from regraft.numerics.features import features_of, head_name


@dataclass(frozen=True)
class nearest_mean:
    distance: Literal["euclidean", "cosine"] = "euclidean"
    source: str = "new"

    def __post_init__(self) -> None:
        if self.distance not in ("euclidean", "cosine"):
            raise RegraftError(f"nearest_mean: distance is {self.distance!r}; it must be 'euclidean' or 'cosine'")

    def begin(self, ctx: Context) -> _NearestMean:
        return _NearestMean(self, ctx)


class _NearestMean:
    def __init__(self, part: nearest_mean, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.left: Mapping[str, Any] = ctx.memory.get("nearest_mean", {"distance": part.distance})
        if self.left["distance"] != part.distance:
            raise RegraftError(
                f"nearest_mean: earlier updates left means for the distance {self.left['distance']!r}", do="Begin anew"
            )

    def edit(self, weights: Weights) -> Weights:
        student = self.ctx.models["student"]
        head = head_name(student, "nearest_mean")
        W, b = weights[f"{head}.weight"], weights.get(f"{head}.bias")
        if b is None:
            raise RegraftError("nearest_mean: the head has no bias", where=head)
        self.counts, self.sums = self._gathered(student, *W.shape)
        mu = self.sums / self.counts.clamp(min=1)[:, None]
        bias = -mu.square().sum(1) / 2
        if self.part.distance == "cosine":
            mu, bias = F.normalize(mu), torch.zeros_like(bias)
        bias[self.counts == 0] = torch.finfo(b.dtype).min / 2
        return {f"{head}.weight": mu.to(W), f"{head}.bias": bias.to(b)}

    def _gathered(self, student: Model, classes: int, width: int) -> tuple[Tensor, Tensor]:
        """Counts [classes] and sums [classes, width] of all rows so far."""
        phi, y = features_of(student, self._rows(), "nearest_mean")
        if int(y.max()) >= classes:
            raise RegraftError(f"nearest_mean: class {int(y.max())} has no output among the head's {classes}")
        phi = phi.double()
        if self.part.distance == "cosine":
            phi = F.normalize(phi)
        counts, sums = y.bincount(minlength=classes).double(), phi.new_zeros(classes, width).index_add(0, y, phi)
        if "counts" in self.left:
            known = len(self.left["counts"])
            counts[:known] += self.left["counts"]
            sums[:known] += self.left["sums"]
        return counts, sums

    def _rows(self) -> Rows:
        left = self.ctx.memory.get(self.part.source, {})
        return Rows(left["columns"]) if "columns" in left else self.ctx.rows(self.part.source)

    def leave(self) -> Mapping[str, Any]:
        return {"nearest_mean": {"distance": self.part.distance, "counts": self.counts, "sums": self.sums}}
