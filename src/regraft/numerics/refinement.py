"""A learning-rate schedule from the gradient norms of an earlier run (Defazio et al. 2023, arXiv 2310.07831)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError


def refine(G: NDArray[np.float64], steps: int, *, power: float, width: float) -> NDArray[np.float64]:
    """The schedule eta_t ~ w_t (w_{t+1} + ... + w_{T+1}), w_t = G_t^power, w_{T+1} = w_T, scaled to a maximum of 1.

    Args:
        G: the norm of each step's gradient, [recorded steps]; stretched to `steps`, as both runs go from 0 to 1.
        steps: T, the steps of the schedule.
        power: -2 for the l2 norm and steps along the gradient, -1 for the l1 norm and Adam-type steps.
        width: of the median filter over G, as a part of the recorded steps; 0: none.

    Returns: [steps]. Raises RegraftError when there is no norm, or a filtered one is not positive and finite.
    """
    if not len(G):
        raise RegraftError("no gradient norm was recorded")
    smooth = _median(np.asarray(G, dtype=np.float64), width)
    if bad := int((~(np.isfinite(smooth) & (smooth > 0))).sum()):
        raise RegraftError(f"{bad} of {len(G)} gradient norms are zero or not finite", do="Record them on a sound run")
    w = np.interp(_middles(steps), _middles(len(G)), smooth / np.median(smooth)) ** power
    after = np.append(w[::-1].cumsum()[::-1][1:], 0.0) + w[-1]
    eta = w * after
    scaled: NDArray[np.float64] = eta / eta.max()
    return scaled


def _middles(steps: int) -> NDArray[np.float64]:
    return (np.arange(steps) + 0.5) / steps


def _median(G: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """The authors' filter: an odd window; the first norm repeats before the start, the last mirror past the end."""
    from scipy.ndimage import median_filter

    size = 2 * (int(width * len(G)) // 2) + 1
    mirrored = np.pad(G, (0, 2 * size), mode="reflect")
    filtered: NDArray[np.float64] = median_filter(mirrored, size=size, mode="nearest")
    return filtered[: len(G)]
