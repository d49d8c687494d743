"""Forecast a loss curve under any learning-rate schedule from one or two short runs.

    L(s)  = L0 + A · S1(s)^-alpha - C · S2(s)
    S1(s) = sum_{i<=s} eta_i
    S2(s) = sum_{i<=s} m_i        m_i = lam · m_{i-1} + (eta_{i-1} - eta_i)        m_1 = 0

L0, A, C, alpha minimise the Huber loss of log L (L-BFGS, several starts); lam is the one of those given that fits best.
One run at a constant rate and one that anneals tell all of them; any schedule is then priced before it is run.

Paper:   "Scaling Law with Learning Rate Annealing" Tissue et al. 2024. https://arxiv.org/abs/2408.11029
Claim:   fitted on a constant and a cosine run, forecasts schedules never seen more closely than the law with C = 0.
Needs:   rows `runs`: `name`, `lrs` (rate of every step), `steps` and `losses` (loss after so many steps); runs without
         losses are forecast only.
Differs: it starts from least-squares fits at several exponents, not from a grid over four parameters, and follows the
         exact gradient; lam is scanned by default (the authors' 0.999 suits runs of many thousand steps). As in the
         authors' code a warm-up counts as if its rate were the peak, and its points are left out.
Tags:    learning rate, forecast, task-free
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model
from regraft.numerics.curves import fit_power_law
from regraft.numerics.finite import finite

Vector = NDArray[np.float64]

LAMBDAS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


@dataclass(frozen=True, eq=False)
class LossCurve:
    """A run: the rate of each step, lrs [steps], and `losses` [points] in nats, after `steps` [points] steps."""

    lrs: Vector
    steps: NDArray[np.int64]
    losses: Vector
    name: str = "curve"

    @classmethod
    def of(cls, lrs: ArrayLike, steps: ArrayLike, losses: ArrayLike, name: str = "curve") -> LossCurve:
        """A checked curve."""
        eta, at, seen = _rates(lrs, name), finite(steps, "steps", where=name), finite(losses, "losses", where=name)
        if at.ndim != 1 or at.shape != seen.shape:
            raise RegraftError(f"{at.size} steps and {seen.size} losses are not vectors of one length", where=name)
        if at.size and (at.min() < 0 or at.max() > eta.size or (at != at.round()).any()):
            raise RegraftError(f"steps must be whole and within 0 and {eta.size}, the run's length", where=name)
        return cls(eta, at.astype(np.int64), seen, name)

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, float]], lrs: ArrayLike, key: str) -> LossCurve:
        """The engine's curve records that hold `key`, such as `held/old`."""
        kept = [r for r in records if key in r]
        return cls.of(lrs, [r["step"] for r in kept], [r[key] for r in kept], key)


@dataclass(frozen=True)
class Law:
    """The fitted law; `error` is the mean Huber loss of log L at the points of the fit."""

    L0: float
    A: float
    C: float
    alpha: float
    lam: float
    error: float

    def predict(self, lrs: ArrayLike) -> Vector:
        """The loss after every step of a run with the rates `lrs` [steps], in nats, [steps]."""
        S1, S2 = areas(_rates(lrs, "forecast"), self.lam)
        return np.asarray(self.L0 + self.A * S1**-self.alpha - self.C * S2)


def _rates(lrs: ArrayLike, where: str) -> Vector:
    eta = finite(lrs, "lrs", where=where)
    if eta.ndim != 1 or not eta.size or eta.min() < 0 or eta[warmup_steps(eta)] == 0:
        raise RegraftError("the law needs the rate of every step, none negative, none 0 at first", where=where)
    return eta


def warmup_steps(lrs: Vector) -> int:
    """How many steps from the first on are lower than the one after."""
    falls = np.flatnonzero(np.diff(lrs) <= 0)
    return int(falls[0]) if falls.size else max(len(lrs) - 1, 0)


def areas(lrs: Vector, lam: float) -> tuple[Vector, Vector]:
    """Forward and annealing area after every step, [steps] each; a warm-up counts at its peak rate."""
    from scipy.signal import lfilter

    warm = warmup_steps(lrs)
    eta = np.where(np.arange(len(lrs)) < warm, lrs[warm], lrs)
    m = lfilter([1.0], [1.0, -lam], -np.diff(eta, prepend=eta[0]))
    return np.cumsum(eta), np.cumsum(m)


def fit_law(
    curves: Sequence[LossCurve],
    *,
    lam: float | Sequence[float] = LAMBDAS,
    delta: float = 1e-3,
    after: int = 0,
    anneal: bool = True,
) -> Law:
    """The law of curves of one model, data and batch size.

    Args:
        lam: momentum of the annealing area, in [0, 1); of several, the one that fits best.
        delta: residuals of log L beyond it count linearly.
        after: points at this step and before are left out, and so is the warm-up.
        anneal: False fits the law with C = 0.

    Raises:
        RegraftError: too few points, values that are not finite, or no annealing to tell C from.
    """
    kept = [c.steps > max(after, warmup_steps(c.lrs)) for c in curves]
    losses = np.concatenate([np.zeros(0), *(c.losses[k] for c, k in zip(curves, kept, strict=True))])
    laws = []
    for each in [lam] if isinstance(lam, float | int) else lam:
        if not 0 <= each < 1:
            raise RegraftError(f"lam {each} is not in [0, 1)")
        at = [[a[c.steps[k] - 1] for a in areas(c.lrs, each)] for c, k in zip(curves, kept, strict=True)]
        S1, S2 = (np.concatenate([np.zeros(0), *(a[i] for a in at)]) for i in (0, 1))
        if anneal and S2.size and not S2.any():
            raise RegraftError("no rate falls, so C cannot be told", do="Add a run that anneals, or use anneal=False")
        p = fit_power_law(S1, losses, S2[:, None] if anneal else None, delta=delta)
        laws.append(Law(p.floor, p.scale, sum(p.slopes), p.exponent, each, p.error))
    return min(laws, key=lambda law: law.error)


@metric
def annealing_law(
    model: Model, ctx: Context, *, runs: str = "runs", lam: float | tuple[float, ...] = LAMBDAS, after: int = 0
) -> Measurement:
    rows = ctx.rows(runs)
    columns = zip(*(rows[c] for c in ("lrs", "steps", "losses", "name")), strict=True)
    curves = {str(name): LossCurve.of(lrs, steps, losses, str(name)) for lrs, steps, losses, name in columns}
    if len(curves) < rows.count:
        raise RegraftError("two runs have one name", where=f"rows {runs!r}, column 'name'")
    law = fit_law([c for c in curves.values() if c.losses.size], lam=lam, after=after)
    forecast = {name: law.predict(c.lrs).tolist() for name, c in curves.items()}
    return Measurement({**asdict(law), **{f"final/{n}": f[-1] for n, f in forecast.items()}}, {"forecast": forecast})
