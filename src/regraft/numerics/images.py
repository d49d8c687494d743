"""Images among the inputs."""

from __future__ import annotations

import math

from torch import Tensor


def as_images(x: Tensor) -> Tensor | None:
    """Inputs as [rows, channels, height, width]: as they are, or as many numbers [rows, n] as a square has pixels.

    None for inputs that are no images, as whole numbers are none.
    """
    if not x.is_floating_point():
        return None
    if x.dim() == 4:
        return x
    side = math.isqrt(x.shape[-1])
    return x.view(-1, 1, side, side) if x.dim() == 2 and side * side == x.shape[1] else None
