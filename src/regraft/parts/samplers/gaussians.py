"""Features drawn from what is kept of each class, its mean and covariance, for the head to learn from.

    phi ~ N(mu_c, Sigma_c + ridge · I)        c: every class as often as any other

Rows have columns `features` and `y`: they are read by the head alone. They replace the rows of old classes where these
may not be kept, as long as the features under the head change little.

Paper:   "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" Zhang et al. 2023.
         https://arxiv.org/abs/2303.05118
Needs:   `gaussians` in memory, as the edit `class_gaussians` leaves them; without them it has no rows.
Differs: the authors' code draws 256 rows of each class an epoch and shrinks earlier tasks' means by up to a tenth.
Tags:    exemplar-free, pseudo-rehearsal
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.features import Moments, head_name
from regraft.numerics.walk import Walk


@dataclass(frozen=True)
class gaussians:
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise RegraftError(f"gaussians: the ridge is {self.ridge}; it must be over 0")

    def begin(self, ctx: Context) -> _Gaussians:
        student, left = ctx.models["student"], ctx.memory.get("gaussians")
        head = student.weights()[f"{head_name(student, 'gaussians')}.weight"]
        return _Gaussians(None if left is None else Moments(**left), self.ridge, head.dtype, ctx.rng)


class _Gaussians(Stateful):
    state = ("walk", "dice")

    def __init__(self, of: Moments | None, ridge: float, dtype: torch.dtype, dice: torch.Generator) -> None:
        self.of, self.dtype, self.dice = of, dtype, dice
        self.walk = Walk(0 if of is None else len(of.classes), dice)
        self.roots = None if of is None else _roots(of.covariances.double(), ridge)

    def draw(self, count: int) -> Rows:
        if self.of is None or self.roots is None:
            return Rows({})
        c = self.walk.next(count)
        z = torch.randn(count, self.of.means.shape[1], generator=self.dice, dtype=torch.float64)
        full = self.roots.dim() == 3
        apart = torch.einsum("rij,rj->ri", self.roots[c], z) if full else self.roots[c] * z
        return Rows({"features": (self.of.means[c] + apart).to(self.dtype), "y": self.of.classes[c]})


def _roots(covariances: Tensor, ridge: float) -> Tensor:
    """A with A Aᵀ = Sigma + ridge · I for every class, [classes, width, width] or, of a diagonal, [classes, width]."""
    if covariances.dim() == 2:
        return (covariances + ridge).sqrt()
    eye = torch.eye(covariances.shape[-1], dtype=covariances.dtype)
    roots: Tensor = torch.linalg.cholesky(covariances + ridge * eye)
    return roots
