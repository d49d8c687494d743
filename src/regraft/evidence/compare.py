"""What changed between two versions, suite by suite and skill by skill, with what the items can and cannot show."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from regraft.evidence.readings import Paired, Reading, Vector, pair
from regraft.numerics.paired import (
    BOOTSTRAP_FROM,
    MeanDifference,
    NetRate,
    Rate,
    holm,
    mcnemar,
    mean_difference,
    smallest_mean_change,
    smallest_net_change,
)

RESOLUTION = 1e-6
"""A mean that moves by less than this share of itself has not moved: scores are read in float32."""


class Finding(StrEnum):
    """What the items show of a change."""

    BETTER = "better"
    WORSE = "worse"
    NO_CHANGE = "no change seen"
    TOO_FEW = "too few items"


@dataclass(frozen=True)
class Flips:
    """Items that were right and are now wrong (negative) or the other way (positive).

    `negative_interval` bounds the share of all items that flip negatively (Clopper and Pearson 1934).
    """

    negative: tuple[str, ...]
    positive: tuple[str, ...]
    negative_rate: float
    negative_interval: tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """A mean before and after. `change` is after - before in the unit of the suite.

    `interval` bounds the change; None at n = 1.
    `p` is two-sided: exact McNemar for right or wrong, else studentised bootstrap over items.
    """

    before: float
    after: float
    change: float
    interval: tuple[float, float] | None
    p: float


@dataclass(frozen=True)
class Change(Effect):
    """One suite, or one skill of it, in two versions.

    Attributes:
        tag: the skill, or None for the whole suite.
        n: items that both versions have.
        only_before, only_after: items that only one of them has; these do not enter.
        p_adjusted: p after Holm over the family: all suites, or all skills of all suites.
        smallest_detectable: the change that these items show with 80% power at the strictest level of the family;
            None where there is no telling.
        companion: the continuous companion of right or wrong items.
        notes: what a reader must know, such as a suite that cannot move.
    """

    suite: str
    tag: str | None
    unit: str
    lower_is_better: bool
    n: int
    only_before: int
    only_after: int
    p_adjusted: float
    smallest_detectable: float | None
    flips: Flips | None
    companion: Effect | None
    verdict: Finding
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two versions compared. `missing` names suites that only one of them was read with, and which."""

    suites: tuple[Change, ...]
    skills: tuple[Change, ...]
    missing: Mapping[str, str]
    alpha: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; every number is finite."""
        return asdict(self)

    def table(self) -> list[dict[str, str]]:
        """Rows for printing, suites first, then skills as `suite/skill`; one key a column."""
        return [_row(change) for change in (*self.suites, *self.skills)]


def compare(
    before: Mapping[str, Reading], after: Mapping[str, Reading], *, alpha: float = 0.05, seed: int = 0
) -> Comparison:
    """Compares two versions on the suites that both were read with.

    Args:
        before, after: readings by suite.
        alpha: chance of any false finding among the suites, and again among the skills; intervals have 1 - alpha each.
        seed: of the bootstrap. Each suite has its own dice: another suite does not move them.

    Raises:
        RegraftError: readings of one suite that do not compare (see `readings.pair`).
    """
    pairs = {name: pair(before[name], after[name]) for name in before if name in after}
    by_skill = [(both, tag) for both in pairs.values() for tag in both.before.skills]
    missing = {name: "read only before" for name in before if name not in after}
    missing |= {name: "read only after" for name in after if name not in before}
    return Comparison(
        suites=_family([_change(both, None, alpha, len(pairs), seed) for both in pairs.values()], alpha),
        skills=_family([_change(_skill(both, tag), tag, alpha, len(by_skill), seed) for both, tag in by_skill], alpha),
        missing=missing,
        alpha=alpha,
        seed=seed,
    )


def mean_interval(reading: Reading, *, alpha: float = 0.05, seed: int = 0) -> tuple[float, float] | None:
    """The mean of one reading, bounded: exact for right or wrong items, else bootstrap over items; None at n = 1."""
    if reading.right_or_wrong:
        rate = Rate(int(reading.values.sum()), len(reading))
        return rate.lower(1 - alpha / 2), rate.upper(1 - alpha / 2)
    if len(reading) < 2:
        return None
    mean = mean_difference(reading.values, reading.weights, rng=dice(seed, "mean", reading.suite))
    return mean.lower(1 - alpha / 2), mean.upper(1 - alpha / 2)


def dice(seed: int, *names: str) -> np.random.Generator:
    """A generator of one's own: other names, other numbers."""
    return np.random.default_rng([seed, *hashlib.sha256("\0".join(names).encode()).digest()])


def net_flips(both: Paired) -> tuple[Vector, NetRate]:
    """[n] after - before of right or wrong items, and the rate of items gained over items lost."""
    moved = both.after.values - both.before.values
    return moved, NetRate(int((moved > 0).sum()), int((moved < 0).sum()), moved.size)


def _skill(both: Paired, tag: str) -> Paired:
    rows = [row for row, tags in enumerate(both.before.tags) if tag in tags]
    return replace(both, before=both.before.take(rows), after=both.after.take(rows), only_before=0, only_after=0)


def _change(both: Paired, tag: str | None, alpha: float, family: int, seed: int) -> Change:
    """A change with `p` still unadjusted; `_family` settles the verdict."""
    rng = dice(seed, both.before.suite, tag or "")
    if both.before.right_or_wrong:
        effect, smallest, flips, few = _right_or_wrong(both, alpha, alpha / family)
    else:
        effect, smallest, flips, few = _continuous(both, alpha, alpha / family, rng)
    companion = None
    if both.before.continuous is not None and both.after.continuous is not None:
        companion, _ = _mean_effect(both.before.continuous, both.after.continuous, both.before.weights, alpha, rng)
    return Change(
        **vars(effect),
        suite=both.before.suite,
        tag=tag,
        unit=both.before.unit,
        lower_is_better=both.before.lower_is_better,
        n=len(both.before),
        only_before=both.only_before,
        only_after=both.only_after,
        p_adjusted=effect.p,
        smallest_detectable=smallest,
        flips=flips,
        companion=companion,
        verdict=Finding.TOO_FEW if few else Finding.NO_CHANGE,
        notes=_notes(both),
    )


_Measured = tuple[Effect, float | None, Flips | None, bool]


def _right_or_wrong(both: Paired, alpha: float, strictest: float) -> _Measured:
    moved, net = net_flips(both)
    negative = Rate(net.minus, net.n)
    ids = np.asarray(both.before.ids, dtype=object)
    flips = Flips(
        negative=tuple(ids[moved < 0]),
        positive=tuple(ids[moved > 0]),
        negative_rate=negative.estimate,
        negative_interval=_both_sides(negative, alpha),
    )
    p = mcnemar(net.plus, net.minus)
    low, high = _both_sides(net, alpha)
    if p > alpha:
        # At exactly no change the standard test is McNemar's: the interval leaves 0 out only where it does too.
        low, high = min(low, 0.0), max(high, 0.0)
    effect = Effect(both.before.mean, both.after.mean, net.estimate, (low, high), p)
    smallest = smallest_net_change(net.n, min(net.plus, net.minus) / net.n, alpha=strictest)
    return effect, smallest, flips, mcnemar(net.n, 0) > alpha


def _continuous(both: Paired, alpha: float, strictest: float, rng: np.random.Generator) -> _Measured:
    before, after = both.before, both.after
    effect, spread = _mean_effect(before.values, after.values, before.weights, alpha, rng)
    smallest = None if spread is None else smallest_mean_change(spread.error, spread.n, alpha=strictest)
    return effect, smallest, None, spread is None or spread.n < BOOTSTRAP_FROM


def _mean_effect(
    before: Vector, after: Vector, weights: Vector, alpha: float, rng: np.random.Generator
) -> tuple[Effect, MeanDifference | None]:
    was, now = (float(np.average(side, weights=weights)) for side in (before, after))
    if (weights > 0).sum() < 2:
        return Effect(was, now, now - was, None, 1.0), None
    found = mean_difference(after - before, weights, rng=rng)
    p = min(2 * min(found.p_above(0.0), found.p_below(0.0)), 1.0)
    return Effect(was, now, found.estimate, _both_sides(found, alpha), p), found


def _both_sides(found: MeanDifference | NetRate | Rate, alpha: float) -> tuple[float, float]:
    return found.lower(1 - alpha / 2), found.upper(1 - alpha / 2)


def _family(changes: Sequence[Change], alpha: float) -> tuple[Change, ...]:
    adjusted = holm([change.p for change in changes])
    return tuple(_settled(change, p, alpha) for change, p in zip(changes, adjusted, strict=True))


def _settled(change: Change, p: float, alpha: float) -> Change:
    verdict = change.verdict
    moved = abs(change.change) > RESOLUTION * max(abs(change.before), abs(change.after))
    if verdict is Finding.NO_CHANGE and p <= alpha and moved:
        verdict = Finding.WORSE if (change.change > 0) == change.lower_is_better else Finding.BETTER
    return replace(change, p_adjusted=p, verdict=verdict)


def cannot_lose(both: Paired) -> bool:
    """Nothing was right before, so nothing can be lost: the suite is at its floor."""
    return both.before.right_or_wrong and not both.before.values.any()


def cannot_gain(both: Paired) -> bool:
    """Everything was right before, so nothing can be gained: the suite is at its ceiling."""
    return both.before.right_or_wrong and bool(both.before.values.all())


def _notes(both: Paired) -> tuple[str, ...]:
    dropped = both.only_before + both.only_after
    conditions: dict[str, bool] = {
        "floor: nothing was right before, so this cannot show a loss": cannot_lose(both),
        "ceiling: everything was right before, so this cannot show a gain": cannot_gain(both),
        "identical on every item": bool((both.before.values == both.after.values).all()),
        f"{dropped} items were read in one version only and are left out": dropped > 0,
    }
    return tuple(note for note, holds in conditions.items() if holds)


def _row(change: Change) -> dict[str, str]:
    number: Callable[[float], str] = "{:.4f}".format
    signed: Callable[[float], str] = "{:+.4f}".format
    low_high = change.interval
    flips = change.flips
    return {
        "suite": change.suite if change.tag is None else f"{change.suite}/{change.tag}",
        "unit": change.unit,
        "n": str(change.n),
        "before": number(change.before),
        "after": number(change.after),
        "change": signed(change.change),
        "interval": "-" if low_high is None else f"{signed(low_high[0])} to {signed(low_high[1])}",
        "p (adjusted)": f"{change.p_adjusted:.2g}",
        "lost": "-" if flips is None else str(len(flips.negative)),
        "won": "-" if flips is None else str(len(flips.positive)),
        "could have seen": "-" if change.smallest_detectable is None else number(change.smallest_detectable),
        "verdict": str(change.verdict),
        "notes": "; ".join(change.notes),
    }
