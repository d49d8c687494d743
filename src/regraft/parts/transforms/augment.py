"""Random views of images: each row is shifted, turned and made noisy by itself.

    x(p) <- x(R_phi p + d) + noise · e        d ~ U[-shift, shift]² pixels, phi ~ U[-turn, turn] degrees, e ~ N(0, 1)

Bilinear; beyond the edge of an image there is 0. Where shift and turn are 0 no pixel moves, and without noise the rows
come back as they are.

Needs:   inputs in column `x`: images [rows, channels, height, width], or as many numbers [rows, n] as a square has
         pixels. Noise alone takes any inputs.
Tags:    augmentation, image
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.images import as_images


@transform
def augment(rows: Rows, ctx: Context, *, shift: float = 1.0, turn: float = 0.0, noise: float = 0.0) -> Rows:
    if min(shift, turn, noise) < 0:
        raise RegraftError(f"augment: shift {shift}, turn {turn} and noise {noise} must be 0 or more")
    if not rows or not (shift or turn or noise):
        return rows
    x: Tensor = rows["x"]
    if shift or turn:
        x = _moved(x, shift, math.radians(turn), ctx.rng)
    if noise:
        x = x + noise * torch.randn(x.shape, generator=ctx.rng, dtype=x.dtype)
    return rows.having(x=x)


def _moved(x: Tensor, shift: float, turn: float, dice: torch.Generator) -> Tensor:
    """Each image turned about its middle by up to `turn` radians, then shifted by up to `shift` pixels."""
    if (images := as_images(x)) is None:
        of = "" if x.is_floating_point() else " of whole numbers"
        raise RegraftError(
            f"augment: the inputs are {list(x.shape[1:])}{of}, no image that could be shifted",
            do="Give [channels, height, width] or a square; or set shift and turn to 0",
        )
    count, _, height, width = images.shape
    u = (torch.rand(count, 3, generator=dice, dtype=torch.float64) * 2 - 1).to(x.dtype)
    phi = turn * u[:, 0]
    # affine_grid counts from -1 to 1 along each side, so a turn of an oblong image scales one axis to the other.
    oblong = height / width
    rotation = torch.stack([phi.cos(), -phi.sin() * oblong, phi.sin() / oblong, phi.cos()], 1).view(-1, 2, 2)
    pixel = torch.tensor([2 / width, 2 / height], dtype=x.dtype)
    grid = F.affine_grid(
        torch.cat([rotation, (shift * u[:, 1:] * pixel)[..., None]], 2), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, align_corners=False).reshape(x.shape)
