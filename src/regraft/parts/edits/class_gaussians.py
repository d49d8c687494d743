"""What is kept of a class in place of its rows: the mean and the covariance of their features. No weight is changed.

    mu_c = mean_r phi_r        Sigma_c = 1/(n_c - 1) sum_r (phi_r - mu_c)(phi_r - mu_c)ᵀ        r: rows of class c

`covariance="diagonal"` keeps as many numbers again as a mean has. The sampler `gaussians` draws from them. Rows of a
class that comes again are counted in, each by the features that it had then.

Paper:   "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" Zhang et al. 2023.
         https://arxiv.org/abs/2303.05118
Needs:   a model with a head; the rows named by `source`, with classes in column `y`.
Leaves:  `gaussians`: classes, counts, means, covariances. No row.
Tags:    exemplar-free, pretrained
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.features import Moments, features_of, moments


@dataclass(frozen=True)
class class_gaussians:
    covariance: Literal["full", "diagonal"] = "full"
    source: str = "new"

    def __post_init__(self) -> None:
        if self.covariance not in ("full", "diagonal"):
            raise RegraftError(f"class_gaussians: covariance is {self.covariance!r}; it must be 'full' or 'diagonal'")

    def begin(self, ctx: Context) -> _ClassGaussians:
        return _ClassGaussians(self, ctx)


class _ClassGaussians:
    def __init__(self, part: class_gaussians, ctx: Context) -> None:
        phi, y = features_of(ctx.models["student"], ctx.rows(part.source), "class_gaussians")
        self.found = moments(phi, y, diagonal=part.covariance == "diagonal")
        if (left := ctx.memory.get("gaussians")) is not None:
            before = Moments(**left)
            if before.covariances.dim() != self.found.covariances.dim():
                raise RegraftError(f"class_gaussians: earlier updates left no {part.covariance} covariances")
            self.found = before.joined(self.found)

    def edit(self, weights: Weights) -> Weights:
        return {}

    def leave(self) -> Mapping[str, Any]:
        return {"gaussians": self.found._replace(covariances=self.found.covariances.float())._asdict()}
