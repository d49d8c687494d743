"""Interleaved timing: every round runs each contestant once, and only ratios within a round are kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """`ours` over `theirs`: the median of the rounds, and the middle half of them."""

    what: str
    theirs: str
    median: float
    low: float
    high: float
    target: float | None = None

    @property
    def row(self) -> str:
        wanted = "" if self.target is None else f"≤ {self.target:g}"
        return f"| {self.what} | {self.theirs} | {self.median:.3f} | {self.low:.3f}-{self.high:.3f} | {wanted} |"


def interleaved(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; one round before the first is not kept.

    The order turns from round to round.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            contestants[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(what: str, ours: list[float], theirs: list[float], name: str, target: float | None = None) -> Ratio:
    """The ratio of two contestants of one run."""
    each = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, high = (each[round(q * (len(each) - 1))] for q in (0.25, 0.75))
    return Ratio(what, name, statistics.median(each), low, high, target)
