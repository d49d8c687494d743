"""Paired comparison of two versions on the same items: intervals, exact bounds, power, sample size.

Three estimates answer the same questions (`Estimate`): a weighted mean of per-item differences (bootstrap), a rate of
items (Clopper-Pearson), and the difference between two flip rates (exact, Berger and Boos). Bounds and p-values of one
estimate agree: `upper(level) < limit` where `p_below(limit) <= 1 - level`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError

Vector = NDArray[np.float64]

BOOTSTRAP_FROM = 10
"""Items from which the bootstrap is used; with fewer, Student's t alone."""
BOOTSTRAP_TO = 20_000
"""Items up to which the bootstrap is used; beyond, its correction is smaller than its own noise."""
NUISANCE = 1e-4
"""Share of the error given to the unknown share of items that flip either way (Berger and Boos's gamma)."""
PLANNED_FLIPS = 200
"""Flips beyond which a plan, never a measurement, takes the normal law for the exact one."""
_CHUNK = 1_000_000
_NUISANCE_GRID = 48
_NEGLIGIBLE = 1e-12
_ROUNDING = 1e-9
_STEADIER = 2


class Estimate(Protocol):
    """A measured quantity with one-sided bounds; `level` is the confidence of one bound, such as 0.95."""

    @property
    def estimate(self) -> float: ...
    @property
    def n(self) -> int: ...
    def lower(self, level: float) -> float: ...
    def upper(self, level: float) -> float: ...
    def p_above(self, limit: float) -> float:
        """p-value against "the true value is at most `limit`": small shows that it is above."""
        ...

    def p_below(self, limit: float) -> float:
        """p-value against "the true value is at least `limit`": small shows that it is below."""
        ...

    def at(self, n: int) -> Estimate:
        """What would be known had `n` items shown the same rates and spread: for planning."""
        ...


@dataclass(frozen=True, eq=False)
class MeanDifference:
    """A weighted mean of per-item differences, its standard error, and the bootstrap's sorted pivots (or None).

    Each bound is the wider of the studentised bootstrap (Efron and Tibshirani 1993, section 12.5) and Student's t.
    In simulation at n = 30 the bootstrap alone loses coverage on heavy symmetric tails and t alone on skewed ones;
    the wider of the two keeps 93-97% on both, where percentile intervals fall to 85-92%.
    """

    estimate: float
    error: float
    n: int
    pivots: Vector | None = None

    def lower(self, level: float) -> float:
        return self.estimate - self.error * self._reach(level, self.pivots)

    def upper(self, level: float) -> float:
        return self.estimate + self.error * self._reach(level, self._mirrored)

    def p_above(self, limit: float) -> float:
        return self._p(self.estimate - limit, self.pivots)

    def p_below(self, limit: float) -> float:
        return self._p(limit - self.estimate, self._mirrored)

    def at(self, n: int) -> MeanDifference:
        return MeanDifference(self.estimate, self.error * math.sqrt(self.n / n), n)

    @property
    def _mirrored(self) -> Vector | None:
        return None if self.pivots is None else -self.pivots[::-1]

    def _reach(self, level: float, pivots: Vector | None) -> float:
        """How many errors a bound of this level lies from the estimate."""
        from scipy.stats import t

        student = float(t.ppf(level, self.n - 1))
        if pivots is None:
            return student
        rank = max(math.floor((1 - level) * (pivots.size + 1)), 1)
        return max(student, float(pivots[-rank]))

    def _p(self, distance: float, pivots: Vector | None) -> float:
        if self.error == 0:
            # All differences are equal: what is left is the sign test, n items on one side.
            return 0.5**self.n if distance > 0 else 1.0
        from scipy.stats import t

        z = distance / self.error
        student = float(t.sf(z, self.n - 1))
        if pivots is None:
            return student
        beyond = pivots.size - int(np.searchsorted(pivots, z, "left"))
        return max(student, (1 + beyond) / (pivots.size + 1))


def mean_difference(
    differences: Vector, weights: Vector | None = None, *, rng: np.random.Generator, resamples: int = 10_000
) -> MeanDifference:
    """Weighted mean of paired differences with its uncertainty over items.

    Args:
        differences: [n] after minus before, one per item.
        weights: [n] non-negative, such as tokens of a document; 1 if not given. Items of weight 0 are left out.
        rng: the dice of the bootstrap, which resamples whole items.
        resamples: bootstrap resamples.

    Returns:
        The ratio estimate sum(w d) / sum(w). Its error is linearised with leverage correction (HC2).

    Raises:
        RegraftError: a value that is not finite, a negative weight, or fewer than two items of positive weight.
    """
    d = np.asarray(differences, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    if d.ndim != 1 or d.shape != w.shape:
        raise RegraftError(f"differences {list(d.shape)} and weights {list(w.shape)} are not vectors of one length")
    if not (np.isfinite(d).all() and np.isfinite(w).all()):
        raise RegraftError("a difference or a weight is not a finite number")
    if (w < 0).any():
        raise RegraftError("a weight is negative")
    d, w = d[w > 0], w[w > 0]
    if d.size < 2:
        raise RegraftError(f"{d.size} items of positive weight show no spread", do="Compare at least two items")
    share = w / w.max()
    share /= share.sum()
    # Centred and scaled before anything is squared: values of any magnitude stay exact.
    scale = float(np.abs(d).max()) or 1.0
    centre = float(share @ (d / scale))
    rest = d / scale - centre
    if np.abs(rest).max() <= 4 * np.finfo(np.float64).eps:
        return MeanDifference(float(d[0]), 0.0, d.size)
    if share.max() == 1:
        raise RegraftError("one item carries all the weight", do="Weigh items by their tokens, or by 1")
    error = math.sqrt(float(((share * rest) ** 2 / (1 - share)).sum()))
    pivots = None
    if BOOTSTRAP_FROM <= d.size <= BOOTSTRAP_TO:
        pivots = _pivots(rest / error, share * d.size, rng, resamples)
    return MeanDifference(centre * scale, error * scale, d.size, pivots)


def _pivots(rest: Vector, w: Vector, rng: np.random.Generator, resamples: int) -> Vector | None:
    """Sorted (mean* - mean) / error* over resamples of items; None where every resample is degenerate."""
    n = rest.size
    moments = np.stack([w, w * rest, w**2, w**2 * rest, (w * rest) ** 2], axis=1)
    rows = max(_CHUNK // n, 1)
    sums = np.concatenate([_resampled(moments, rng, min(rows, resamples - i)) for i in range(0, resamples, rows)])
    total, first, square, cross, second = sums.T
    mean = first / total
    spread = second - 2 * mean * cross + mean**2 * square
    # A resample of equal items leaves only rounding: it has no spread of its own and takes the smallest seen.
    seen = spread > _NEGLIGIBLE * second
    if not seen.any():
        return None
    error = np.sqrt(np.where(seen, spread, 0) * n / (n - 1)) / total
    return np.sort(mean / np.maximum(error, error[seen].min()))


def _resampled(moments: Vector, rng: np.random.Generator, rows: int) -> Vector:
    """[rows, k] sums of `moments` [n, k] over n items drawn with replacement."""
    n = len(moments)
    drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
    sums: Vector = counts.astype(np.float64) @ moments
    return sums


@dataclass(frozen=True)
class Rate:
    """A share of items, such as negative flips, with exact bounds (Clopper and Pearson 1934).

    `count` may be fractional where it stands for a planned rate; the bounds interpolate.
    """

    count: float
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.count <= self.n:
            raise RegraftError(f"{self.count} of {self.n} items is not a rate")

    @property
    def estimate(self) -> float:
        return self.count / self.n

    def lower(self, level: float) -> float:
        from scipy.stats import beta

        return float(beta.ppf(1 - level, self.count, self.n - self.count + 1)) if self.count > 0 else 0.0

    def upper(self, level: float) -> float:
        from scipy.stats import beta

        return float(beta.ppf(level, self.count + 1, self.n - self.count)) if self.count < self.n else 1.0

    def p_above(self, limit: float) -> float:
        from scipy.stats import beta

        return float(beta.cdf(limit, self.count, self.n - self.count + 1)) if self.count > 0 else 1.0

    def p_below(self, limit: float) -> float:
        from scipy.stats import beta

        return float(beta.sf(limit, self.count + 1, self.n - self.count)) if self.count < self.n else 1.0

    def at(self, n: int) -> Rate:
        return Rate(self.count * n / self.n, n)


@dataclass(frozen=True)
class NetRate:
    """(plus - minus) / n for items that flip one way or the other, with exact bounds.

    Under a true net rate the count's law depends also on the share of items that flip at all. The p-value is the
    largest over that share's one-sided confidence set of level 1 - NUISANCE, plus NUISANCE (Berger and Boos 1994):
    valid at every n, and far tighter than adding two Clopper-Pearson bounds.
    """

    plus: int
    minus: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or min(self.plus, self.minus) < 0 or self.plus + self.minus > self.n:
            raise RegraftError(f"{self.plus} and {self.minus} flips of {self.n} items are not rates")

    @property
    def estimate(self) -> float:
        return (self.plus - self.minus) / self.n

    def lower(self, level: float) -> float:
        return -NetRate(self.minus, self.plus, self.n).upper(level)

    def upper(self, level: float) -> float:
        from scipy.optimize import brentq

        def excess(limit: float) -> float:
            return self.p_below(limit) - (1 - level)

        if excess(1.0) > 0:
            return 1.0
        return float(brentq(excess, self.estimate, 1.0, xtol=1e-7)) if excess(self.estimate) > 0 else self.estimate

    def p_above(self, limit: float) -> float:
        return _net_tail(self.minus, self.plus, self.n, -limit)

    def p_below(self, limit: float) -> float:
        return _net_tail(self.plus, self.minus, self.n, limit)

    def at(self, n: int) -> Estimate:
        plus, minus = round(self.plus * n / self.n), round(self.minus * n / self.n)
        if plus + minus > PLANNED_FLIPS:
            spread = (self.plus + self.minus) / self.n - self.estimate**2
            return MeanDifference(self.estimate, math.sqrt(spread / n), n)
        return NetRate(plus, min(minus, n - plus), n)


@lru_cache(maxsize=4096)
def _net_tail(plus: int, minus: int, n: int, limit: float) -> float:
    """Largest chance of counts at least as far below `limit` as these, where the true net rate is at least `limit`."""
    from scipy.stats import binom

    most = Rate(plus + minus, n).upper(1 - NUISANCE)
    if limit > most:
        return NUISANCE
    net = max(limit, -most)
    # Outcomes rank by (net count - expected) / sqrt(flips + _STEADIER): few flips count as strong evidence.
    score = (plus - minus - n * limit) / math.sqrt(plus + minus + _STEADIER)
    either = np.linspace(max(abs(net), _NEGLIGIBLE), most, _NUISANCE_GRID)[:, None]
    flipped, chance = _counts(n, either)
    up = np.clip((1 + net / either) / 2, 0, 1)
    as_extreme = n * limit + score * np.sqrt(flipped + _STEADIER)
    reached = binom.cdf(np.floor((as_extreme + flipped) / 2 + _ROUNDING), flipped, up)
    tail = (chance * reached).sum(axis=1)
    return min(float(tail.max()) + NUISANCE, 1.0)


def _counts(n: int, rates: Vector) -> tuple[NDArray[np.int64], Vector]:
    """Counts that Binomial(n, rate) takes, all but a negligible part, and their chances.

    For `rates` [rates, 1].
    """
    from scipy.stats import binom

    width = math.ceil(8 * math.sqrt(n * float(rates.max()))) + 20
    if n <= 2 * width:
        counts = np.arange(n + 1)[None, :]
        return counts, binom.pmf(counts, n, rates)
    counts = np.rint(n * rates).astype(np.int64) + np.arange(-width, width + 1)
    return counts.clip(0, n), binom.pmf(counts, n, rates)


def mcnemar(plus: int, minus: int) -> float:
    """Two-sided exact p-value that items flip either way equally often (McNemar 1947): the sign test of the flips."""
    from scipy.stats import binomtest

    return float(binomtest(plus, plus + minus).pvalue) if plus + minus else 1.0


def mcnemar_power(n: int, with_change: float, against: float, *, alpha: float) -> float:
    """Chance that exact McNemar at `alpha` sees a change.

    Args:
        n: items.
        with_change, against: shares of the items that flip the way of the change and the other way.
    """
    from scipy.stats import binom

    either = min(with_change + against, 1.0)
    if either <= 0:
        return 0.0
    flipped, chance = _counts(n, np.array([[either]]))
    critical = binom.ppf(alpha / 2, flipped, 0.5)
    critical -= binom.cdf(critical, flipped, 0.5) > alpha / 2
    return float((chance * binom.cdf(critical, flipped, against / either)).sum())


def smallest_net_change(n: int, churn: float, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest net share of flipped items that exact McNemar sees with `power`, or None if not even all of them.

    Args:
        n: items.
        churn: share of the items that flips against the change anyway; as many flip with it.
    """
    from scipy.optimize import brentq

    def short(net: float) -> float:
        return power - mcnemar_power(n, churn + net, churn, alpha=alpha)

    widest = 1 - 2 * churn
    if n < 1 or widest <= 0 or short(widest) > 0:
        return None
    return float(brentq(short, 0.0, widest, xtol=1e-7))


def smallest_mean_change(error: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest mean difference that a two-sided paired t-test sees with `power`: (t_(1-alpha/2) + t_power) * error.

    None where there is no spread to judge by.
    """
    from scipy.stats import t

    if n < 2 or error <= 0:
        return None
    return float(t.ppf(1 - alpha / 2, n - 1) + t.ppf(power, n - 1)) * error


def items_needed(now: Estimate, decided: Callable[[Estimate], bool], *, most: int = 10_000_000) -> int | None:
    """Smallest number of items at which `decided` holds if all show what the present ones show; None beyond `most`."""
    return _smallest(lambda n: decided(now.at(n)), now.n, most)


def items_for_rate(limit: float, *, confidence: float, count: int = 0) -> int:
    """Items needed so that `count` of them bound a rate by `limit`: no flip at 1% and 97.5% needs 368.

    Raises:
        RegraftError: a limit or a confidence outside (0, 1).
    """
    if not (0 < limit < 1 and 0 < confidence < 1):
        raise RegraftError(f"a rate of {limit} at confidence {confidence}: both must lie between 0 and 1")
    needed = _smallest(lambda n: Rate(count, n).p_below(limit) <= 1 - confidence, max(count, 1), 2**62)
    if needed is None:
        raise RegraftError(f"a rate as small as {limit} cannot be bounded")
    return needed


def _smallest(holds: Callable[[int], bool], start: int, most: int) -> int | None:
    """Smallest n in [start, most] at which a condition holds that, once true, stays true."""
    low, high = start - 1, start
    while not holds(high):
        low, high = high, high * 2
        if low >= most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high if high <= most else None


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that the chance of any false finding in the family stays at the level (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
