"""Power laws fitted to loss curves: Huber loss on the logarithm, L-BFGS from several starts.

The objective is that of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language Models", section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError
from regraft.numerics.finite import finite

Vector = NDArray[np.float64]

EXPONENTS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Where the exponent starts; the other parameters start at the least-squares fit that belongs to it."""
_ROUNDS = 20
_SETTLED = 1e-9
_SMALLEST = 1e-3
_STEEPEST = 10.0


@dataclass(frozen=True)
class PowerLaw:
    """y = floor + scale · x^-exponent - drops · slopes, all parameters non-negative.

    `error` is the mean Huber loss of the residuals of log y at the points of the fit.
    """

    floor: float
    scale: float
    exponent: float
    slopes: tuple[float, ...]
    error: float

    def __call__(self, x: Vector, drops: Vector | None = None) -> Vector:
        """The law at `x` [n] > 0 with `drops` [n, slopes]."""
        y = self.floor + self.scale * x**-self.exponent
        return y if drops is None else y - drops @ np.array(self.slopes)


def fit_power_law(
    x: Vector,
    y: Vector,
    drops: Vector | None = None,
    *,
    delta: float = 1e-3,
    exponents: Sequence[float] = EXPONENTS,
) -> PowerLaw:
    """The power law with the smallest mean Huber loss of log y.

    Args:
        x: [n], positive.
        y: [n], positive.
        drops: [n, slopes] what else lowers y, in proportion.
        delta: residuals of log y beyond it count linearly.
        exponents: starting points.

    Raises:
        RegraftError: a value that is not finite or not positive, or fewer points than parameters.
    """
    from scipy.optimize import minimize, nnls

    x, y = finite(x, "x of the power law"), finite(y, "y of the power law")
    z = finite(np.empty((len(x), 0)) if drops is None else drops, "drops of the power law")
    if len(x) < 3 + z.shape[1]:
        raise RegraftError(f"{len(x)} points cannot tell {3 + z.shape[1]} parameters", do="Give more points")
    if (x <= 0).any() or (y <= 0).any():
        raise RegraftError("a power law needs positive values", do="Leave out step 0")
    # Everything is fitted in units of its own size: L-BFGS needs parameters of one magnitude, hardly correlated.
    x_unit, y_unit = np.exp(np.log(x).mean()), np.exp(np.log(y).mean())
    z_unit = np.where((largest := np.abs(z).max(0)) > 0, largest, 1.0)
    log_u, v, w = np.log(x / x_unit), y / y_unit, z / z_unit

    def columns(alpha: float) -> Vector:
        return np.column_stack([np.ones_like(v), np.exp(-alpha * log_u), -w])

    def objective(p: Vector) -> tuple[float, Vector]:
        """Mean Huber loss in units of delta², and its gradient; p = (exponent, floor, scale, slopes)."""
        basis = columns(p[0])
        fitted = basis @ p[1:]
        # Below `small` the logarithm goes on as its tangent, so that a step too far finds its way back.
        inside = np.maximum(fitted, small)
        log_fitted = np.log(inside) + np.minimum(fitted - small, 0) / small
        t = (np.log(v) - log_fitted) / delta
        size = np.abs(t)
        loss = np.where(size < 1, t**2 / 2, size - 0.5)
        weight = -np.clip(t, -1, 1) / (delta * inside * len(v))
        jacobian = np.column_stack([-p[2] * basis[:, 1] * log_u, basis])
        return float(loss.mean()), weight @ jacobian

    small = _SMALLEST * float(v.min())
    bounds = [(0, _STEEPEST)] + [(0, None)] * (2 + w.shape[1])
    options = {"maxiter": 5_000, "maxfun": 20_000, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-10}
    best, least = np.zeros(0), np.inf
    for alpha in exponents:
        p = np.array([alpha, *nnls(columns(alpha) / v[:, None], np.ones_like(v))[0]])
        before = objective(p)[0]
        for _ in range(_ROUNDS):
            # A new round forgets the curvature of the old one, which the kinks of the Huber loss make wrong.
            found = minimize(objective, p, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            p, gain, before = found.x, before - found.fun, float(found.fun)
            if gain <= _SETTLED * before:
                break
        if before < least:
            best, least = p, before
    exponent = float(best[0])
    floor, scale, *slopes = (y_unit * best[1:] / np.array([1.0, x_unit**-exponent, *z_unit])).tolist()
    return PowerLaw(floor, scale, exponent, tuple(slopes), least * delta**2)
