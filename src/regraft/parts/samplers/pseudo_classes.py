"""Pseudo-classes: an image that is turned is of another class, so that real classes leave room for those to come.

    x_r <- turn(x_r, k · 90°)    y_r <- y_r + k C        k ~ {0, 1, 2, 3}, C: the head's outputs

The numbers are beyond the head's, so only losses that compare rows (`supcon`) can learn them. Column `quarter` holds k,
which a pretext task may ask for (`rotation`).

Paper:   "A Bag of Tricks for Few-Shot Class-Incremental Learning" Roy et al. 2024. https://arxiv.org/abs/2403.14392
Needs:   the rows named by `source`, which are drawn in shuffled passes, with images in column `x`, [rows, channels,
         side, side], or as many numbers [rows, n] as a square has pixels, and classes in column `y`; a model with a
         head. Views of one row are made of the turned one: `view_batch(pseudo_classes(), 2, ...)`.
Differs: which images make a pseudo-class is our choice; turns of 90° keep every pixel. Where a class looks alike when
         it is turned, it is pushed away from itself.
Tags:    augmentation, representation, image, few-shot
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.features import headed
from regraft.numerics.images import as_images
from regraft.numerics.walk import Walk


@dataclass(frozen=True)
class pseudo_classes:
    source: str = "new"

    def begin(self, ctx: Context) -> _PseudoClasses:
        head = headed(ctx.models["student"], "pseudo_classes").head
        return _PseudoClasses(ctx.rows(self.source), head.out_features, ctx.rng)


class _PseudoClasses(Stateful):
    state = ("walk", "dice")

    def __init__(self, rows: Rows, classes: int, dice: torch.Generator) -> None:
        self.rows, self.classes, self.dice = rows, classes, dice
        self.walk = Walk(rows.count, dice)

    def draw(self, count: int) -> Rows:
        rows = self.rows.take(self.walk.next(count))
        quarter = torch.randint(0, 4, (rows.count,), generator=self.dice)
        return rows.having(x=turned(rows["x"], quarter), y=rows["y"] + quarter * self.classes, quarter=quarter)


def turned(x: Tensor, quarter: Tensor) -> Tensor:
    """Each image turned by so many quarters of a circle."""
    images = as_images(x)
    if images is None or images.shape[2] != images.shape[3]:
        raise RegraftError(
            f"pseudo_classes: the inputs are {list(x.shape[1:])}, no square image that could be turned",
            do="Give [channels, side, side] or as many numbers as a square has pixels",
        )
    every = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])
    return every[quarter, torch.arange(len(x))].reshape(x.shape)
