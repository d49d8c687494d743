"""Pre-assigned prototypes: the head's rows are the corners of a regular simplex, and classes still to come have theirs.

    e_j·e_k = -1 / (K - 1)    for all j != k        K: the head's outputs

Each class is given a corner once: those that an update brings together get the corners that are still free, so that
sum_c cos(mu_c, e_c) is largest (Hungarian method), mu_c: the mean of phi / ||phi||. Corners that no class has yet stand
in the rows of classes without one, so a loss over all rows (`cosine`) keeps features away from them. Among a plan's
trainables the part holds the head still.

Paper:   "A Bag of Tricks for Few-Shot Class-Incremental Learning" Roy et al. 2024. https://arxiv.org/abs/2403.14392
Paper:   "Neural Collapse Inspired Feature-Classifier Alignment for Few-Shot Class Incremental Learning" Yang et al.
         2023. https://openreview.net/forum?id=y5W8tpojhtJ
Needs:   a head with as many features as outputs, less one, at least; the rows named by `source`, with classes in column
         `y`. Features that cannot be negative reach few corners: end the body with a linear layer.
Leaves:  `simplex`: the corners, and the corner of each class (-1: none).
Tags:    prototypes, class-incremental, few-shot, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot, Weights
from regraft.numerics.features import features_of, head_name, moments


@dataclass(frozen=True)
class simplex:
    source: str = "new"

    def begin(self, ctx: Context) -> _Simplex:
        return _Simplex(self, ctx)


class _Simplex:
    def __init__(self, part: simplex, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.head = head_name(ctx.models["student"], "simplex")
        self.left: Mapping[str, Tensor] = ctx.memory.get("simplex", {})

    def edit(self, weights: Weights) -> Weights:
        W, b = weights[f"{self.head}.weight"], weights.get(f"{self.head}.bias")
        if not self.left:
            none = torch.full((len(W),), -1)
            self.left = {"corners": corners(len(W), W.shape[1], self.ctx.rng), "of": none}
        if self.left["corners"].shape != W.shape:
            raise RegraftError(
                f"simplex: the head is {list(W.shape)}, the corners that earlier updates left are "
                f"{list(self.left['corners'].shape)}",
                do="Begin with a head that has an output for every class to come",
            )
        self.left = {"corners": self.left["corners"], "of": self._assigned()}
        found = {f"{self.head}.weight": self._rows().to(W)}
        return found if b is None else {**found, f"{self.head}.bias": torch.zeros_like(b)}

    def _assigned(self) -> Tensor:
        """The corner of each class, with those of the classes that are new."""
        from scipy.optimize import linear_sum_assignment

        E, of = self.left["corners"], self.left["of"].clone()
        phi, y = features_of(self.ctx.models["student"], self.ctx.rows(self.part.source), "simplex")
        if int(y.max()) >= len(E):
            raise RegraftError(f"simplex: class {int(y.max())} has no output among the head's {len(E)}")
        found = moments(F.normalize(phi.double()), y, diagonal=True)
        new = of[found.classes] < 0
        free = torch.tensor([j for j in range(len(E)) if j not in of.tolist()], dtype=torch.long)
        row, column = linear_sum_assignment(F.normalize(found.means[new]) @ E[free].T, maximize=True)
        of[found.classes[new][torch.as_tensor(row)]] = free[torch.as_tensor(column)]
        return of

    def _rows(self) -> Tensor:
        """The head: each class's corner, and the free ones where a class has none."""
        E, of = self.left["corners"], self.left["of"].clone()
        of[of < 0] = torch.tensor([j for j in range(len(E)) if j not in of.tolist()], dtype=torch.long)
        return E[of]

    def install(self, model: Model) -> None: ...

    def multiplier(self, slot: Slot) -> float:
        return 0.0 if slot.name.startswith(f"{self.head}.") else 1.0

    def fold(self, model: Model) -> None: ...

    def leave(self) -> Mapping[str, Any]:
        return {"simplex": dict(self.left)} if self.left else {}


def corners(count: int, width: int, dice: torch.Generator) -> Tensor:
    """A regular simplex about 0, turned at random: unit rows [count, width], float64."""
    if count < 2 or width < count - 1:
        raise RegraftError(
            f"simplex: {count} directions in {width} dimensions have no equal angles",
            do="Give the head at least two outputs, and at most one more than it reads features",
        )
    ones, rest = torch.ones(count, 1), torch.eye(count)[:, 1:]
    plane = torch.linalg.qr(torch.cat([ones, rest], 1).double()).Q[:, 1:]
    turn = torch.linalg.qr(torch.randn(width, count - 1, generator=dice, dtype=torch.float64)).Q
    return F.normalize(plane @ turn.T)
