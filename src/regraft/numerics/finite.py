"""Numbers that came from outside, checked once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regraft.core.errors import RegraftError


def finite(values: ArrayLike, what: str, *, where: object = None) -> NDArray[np.float64]:
    """`values` as float64, or an error that names the first entry that is not a finite number."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise RegraftError(f"{what}: not numbers, or not of one length", where=where) from None
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = ", ".join(map(str, bad[0]))
        raise RegraftError(f"{what}: entry {at or 0} is {array[tuple(bad[0])]}, not a finite number", where=where)
    return array
