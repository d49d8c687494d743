"""Features of a frozen network and what is kept of each class in place of its rows.

n_c    mu_c = 1/n_c sum_r phi_r    Sigma_c = 1/(n_c - 1) sum_r (phi_r - mu_c)(phi_r - mu_c)ᵀ      r: rows of class c
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Headed, Model, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating

CHUNK_ROWS = 512


def head_if_any(model: Model) -> str | None:
    """The name of the model's last layer, where it has one that answers from features."""
    name: str | None = getattr(model, "head_name", None)
    return name


def headed(model: Model, part: str) -> Headed:
    """The model, or an error where it has no head; `part` is who asks."""
    if head_if_any(model) is None:
        raise RegraftError(f"{part}: the model has no head, a linear layer that answers from features")
    return cast(Headed, model)


def last_layer(model: Model, part: str) -> nn.Module:
    """The layer that reads the features, of any family; `part` is who asks."""
    layer: nn.Module | None = getattr(model, "last_layer", None)
    if layer is None:
        raise RegraftError(f"{part}: the model has no last layer whose input could be its features")
    return layer


def head_name(model: Model, part: str) -> str:
    """The name of the model's last layer; `part` is who asks."""
    return headed(model, part).head_name


def features_of(model: Model, rows: Rows, part: str) -> tuple[Tensor, Tensor]:
    """What the head reads of the rows, [rows, width], and their classes, [rows]; in evaluation mode, on the CPU."""
    headed(model, part)
    phi, y = outputs_of(model, rows, "features", "targets")
    return phi, y


@torch.no_grad()
def outputs_of(model: Model, rows: Rows, *names: Literal["logits", "targets", "features"]) -> list[Tensor]:
    """What a view of the rows has by these names, [rows, ...]; in evaluation mode, on the CPU."""
    found = []
    with evaluating(model):
        for chunk in rows.chunks(CHUNK_ROWS):
            view = View(model, chunk.to(model.device), {})
            found.append([getattr(view, name).cpu() for name in names])
    return [torch.cat(each) for each in zip(*found, strict=True)]


class Moments(NamedTuple):
    """The first and second moments of the features of each class, ascending: float64, but the classes."""

    classes: Tensor
    counts: Tensor
    means: Tensor
    covariances: Tensor
    """[classes, width, width], or [classes, width] where features count as independent; 0 for a single row."""

    def joined(self, other: Moments) -> Moments:
        """Those of the rows of both."""
        classes = torch.cat([self.classes, other.classes]).unique()
        mine, theirs = self._among(classes), other._among(classes)
        n = mine.counts + theirs.counts
        share = (theirs.counts / n)[:, None]
        apart = theirs.means - mine.means
        between = _square(apart, mine.covariances.dim() == 3)
        a, b = (_beside(m.counts - 1, between).clamp(min=0) * m.covariances for m in (mine, theirs))
        scatter = a + b + _beside(mine.counts * theirs.counts / n, between) * between
        covariances = scatter / _beside(n - 1, between).clamp(min=1)
        return Moments(classes, n, mine.means + share * apart, covariances)

    def _among(self, classes: Tensor) -> Moments:
        """The same with all of these classes, those of no rows too."""
        at = torch.searchsorted(classes, self.classes)
        return Moments(classes, *(t.new_zeros(len(classes), *t.shape[1:]).index_copy(0, at, t) for t in self[1:]))


def moments(phi: Tensor, y: Tensor, *, diagonal: bool = False) -> Moments:
    """Moments of features [rows, width] by class [rows]."""
    classes, which = y.unique(return_inverse=True)
    phi = phi.double()
    counts = which.bincount(minlength=len(classes)).double()
    means = phi.new_zeros(len(classes), phi.shape[1]).index_add(0, which, phi) / counts[:, None]
    centred = phi - means[which]
    if diagonal:
        scatter = torch.zeros_like(means).index_add(0, which, centred.square())
    else:
        scatter = torch.stack([own.T @ own for own in (centred[which == c] for c in range(len(classes)))])
    return Moments(classes, counts, means, scatter / _beside(counts - 1, scatter).clamp(min=1))


def _square(x: Tensor, full: bool) -> Tensor:
    return x[:, :, None] * x[:, None, :] if full else x.square()


def _beside(x: Tensor, like: Tensor) -> Tensor:
    """x [classes] as a factor on what each class has."""
    return x.view(-1, *[1] * (like.dim() - 1))
