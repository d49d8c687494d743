"""What a comparison of methods found, and the one that comes with regraft. Imports no torch.

`records/_continual.json` holds the `results.json` of one or several calls of `regraft bench continual`, in a list; no
ground is in two of them.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

from regraft.evidence.cards import OURS

BASELINE = "naive"
CONFIDENCE = 0.95
"""Of the intervals, which are two-sided."""
LEAST_SEEDS = 3
"""With fewer there are no intervals, and no methods are told apart."""


class Setting(NamedTuple):
    """Knobs of a method, and a factor on the ground's learning rate."""

    knobs: tuple[tuple[str, Any], ...] = ()
    lr: float = 1.0


@dataclass(frozen=True)
class Found:
    """What a trial came to.

    Attributes:
        average, forgetting: after the last task, as `Lived.measures` says them; `better`: which averages are.
        seconds: of one process on one thread.
        kept: bytes that the method left in memory beside the network.
        refused: why the method cannot act here; failed: how training diverged. Then nothing else is said.
        notice: what of the method has no effect here, and why.
    """

    average: float = math.nan
    forgetting: float = math.nan
    better: Literal["higher", "lower"] = "higher"
    seconds: float = math.nan
    updates: int = 0
    kept: int = 0
    refused: str = ""
    failed: str = ""
    notice: str = ""

    @property
    def ended(self) -> bool:
        return not (self.refused or self.failed)

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where there is no number."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Found:
        """From its JSON."""
        return cls(**{name: _number(value) for name, value in said.items()})


def reach(values: Sequence[float], level: float) -> float:
    """Half the two-sided t interval that holds their mean with probability `level`; no number for fewer than two
    values, or where one of them is none."""
    from scipy.special import stdtrit

    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    quantile = float(stdtrit(len(values) - 1, (1 + level) / 2))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def multiple(found: Sequence[Found], plain: Sequence[Found], of: Literal["seconds", "updates"]) -> float:
    """The median over seeds of what a method took, as a multiple of what plain training took; no number if there is no
    seed on which both came to an end."""
    ratios = [getattr(f, of) / getattr(p, of) for f, p in zip(found, plain, strict=True) if f.ended and p.ended]
    return statistics.median(ratios) if ratios else math.nan


@dataclass(frozen=True)
class Row:
    """One method on one ground.

    Attributes:
        setting: the one that was kept. `tuned`: its average on the tuning streams, none where nothing was tuned.
        found: of the judged streams, by seed.
        cost, steps: the median over seeds of its seconds, and of its updates, as a multiple of plain training's on the
            same stream.
        refused: why it cannot act here, on every seed or on some; then it has no place in a table.
        hindsight: its average, had the setting been chosen on the judged streams; none where that was not asked for.
    """

    method: str
    setting: Setting
    tuned: float | None
    found: tuple[Found, ...]
    cost: float
    steps: float = math.nan
    refused: str = ""
    hindsight: float | None = None

    @property
    def diverged(self) -> int:
        """On how many seeds."""
        return sum(bool(f.failed) for f in self.found)

    def mean(self, of: Literal["average", "forgetting", "kept"]) -> tuple[float, float]:
        """The mean over seeds and half its interval (t): no numbers if it diverged on one; few seeds, no interval."""
        if self.diverged:
            return math.nan, math.nan
        values = [getattr(f, of) for f in self.found]
        half = reach(values, CONFIDENCE) if len(values) >= LEAST_SEEDS else math.nan
        return statistics.fmean(values), half


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: by ground, a row for every method.

    The best average comes first; what diverged, and then what cannot act, come last.

    Attributes:
        tuned_on: by ground, what the streams that settings were chosen on are made of.
    """

    grounds: Mapping[str, str]
    rows: Mapping[str, tuple[Row, ...]]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    configurations: int
    tuned_on: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where there is no number."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def alike(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The best of rows that begin with it, and those that cannot be told from it: the interval (paired t over seeds) of
    the difference of their averages includes 0. Rows that have no average are left out; few seeds tell nothing."""
    with_average = [row for row in rows if not row.refused and math.isfinite(row.mean("average")[0])]
    if not with_average or len(with_average[0].found) < LEAST_SEEDS:
        return tuple(with_average[:1])
    best, *others = with_average
    return best, *(row for row in others if not _worse(row, best))


def _worse(row: Row, best: Row) -> bool:
    sign = 1 if best.found[0].better == "higher" else -1
    apart = [sign * (a.average - b.average) for a, b in zip(best.found, row.found, strict=True)]
    return statistics.fmean(apart) > reach(apart, CONFIDENCE)


def verdict(rows: Sequence[Row]) -> str:
    """Which methods of a table cannot be told from its best, in a sentence; none where that cannot be said."""
    compared = [row for row in rows if not row.refused]
    if len(compared) < 2 or len(compared[0].found) < LEAST_SEEDS or not (found := alike(rows)):
        return ""
    best, *others = (row.method for row in found)
    what = f"Cannot be told from the best, {best}: {', '.join(others)}" if others else f"The best alone: {best}"
    return f"{what} (95%, paired over seeds)."


def optimism(rows: Sequence[Row]) -> str:
    """How much better each method would look, had its setting been chosen on the judged streams, in a sentence; none
    where that was not asked for.

    Paper: "Hyperparameters in Continual Learning: a Reality Check" Cha and Cho 2024. https://arxiv.org/abs/2403.09066
    """
    means = [(row.method, row.mean("average")[0], row.hindsight) for row in rows if not row.refused]
    both = [(name, mean, best) for name, mean, best in means if best is not None and math.isfinite(mean)]
    if not both:
        return ""
    higher = rows[0].found[0].better == "higher"
    scale, digits = (100, 1) if higher else (1, 3)
    gaps = sorted(((abs(best - mean) * scale, name) for name, mean, best in both), reverse=True)
    turned = sum((a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in itertools.combinations(both, 2))
    return (
        f"Had settings been chosen on the judged streams, averages would be {'higher' if higher else 'lower'} by: "
        f"{', '.join(f'{name} {gap:.{digits}f}' for gap, name in gaps)}. Of {math.comb(len(both), 2)} pairs of methods "
        f"{turned} would stand in the other order."
    )


def read(said: Mapping[str, Any]) -> Comparison:
    """A comparison from its JSON."""
    rows = {ground: _rows(of) for ground, of in said["rows"].items()}
    seeds, tuning_seeds = tuple(said["seeds"]), tuple(said["tuning_seeds"])
    return Comparison(said["grounds"], rows, seeds, tuning_seeds, said["configurations"], said.get("tuned_on", {}))


def _rows(said: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    return tuple(
        Row(
            row["method"],
            Setting(tuple((k, _tupled(v)) for k, v in row["setting"]["knobs"].items()), row["setting"]["lr"]),
            row["tuned"],
            tuple(map(Found.of, row["found"])),
            _number(row["cost"]),
            _number(row["steps"]),
            row["refused"],
            row.get("hindsight"),
        )
        for row in said
    )


@cache
def measured() -> tuple[Comparison, ...]:
    """What regraft's own methods came to."""
    return tuple(map(read, json.loads(OURS.record("_continual").read_text(encoding="utf-8"))))


class Stood(NamedTuple):
    """How a method did on a ground, and how plain training did there."""

    ground: str
    says: str
    row: Row
    plain: Row


def stood(name: str) -> list[Stood]:
    """Of a method by itself, the grounds of the shipped comparison on which it can act."""
    found = []
    for comparison in measured():
        for ground, rows in comparison.rows.items():
            by = {row.method: row for row in rows if not row.refused}
            if name in by:
                found.append(Stood(ground, comparison.grounds[ground], by[name], by[BASELINE]))
    return found


class Cells(NamedTuple):
    """A row of a table."""

    method: str
    average: str
    forgetting: str
    steps: str
    cost: str
    kept: str
    setting: str

    @classmethod
    def of(cls, row: Row) -> Cells:
        scale, digits = (100, 1) if row.found[0].better == "higher" else (1, 3)
        average, forgetting = (_with_reach(*row.mean(of), scale, digits) for of in ("average", "forgetting"))
        knobs = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.setting.knobs
        ]
        knobs += [f"lr×{row.setting.lr:.2g}"] if row.setting.lr != 1 else []
        setting = " ".join(knobs) or "defaults"
        kept = _kept(row.mean("kept")[0])
        return cls(row.method, average, forgetting, _times(row.steps), _times(row.cost), kept, setting)


def heads(rows: Sequence[Row]) -> list[str]:
    """The heads of the columns of a ground's table, with their units."""
    unit = "%" if rows[0].found[0].better == "higher" else "nats"
    return [f"{name}, {unit}" if name in ("average", "forgetting") else name for name in Cells._fields]


def remark(row: Row) -> str:
    """What a table does not show of a method: why it is left out, how often it diverged, what has no effect."""
    if row.refused:
        return f"is left out: {row.refused}"
    if not row.diverged:
        return next((f"says: {f.notice}" for f in row.found if f.notice), "")
    why = next(f.failed for f in row.found if f.failed)
    return f"diverged on {row.diverged} of {len(row.found)} seeds: {why}"


def _with_reach(mean: float, reach: float, scale: float, digits: int) -> str:
    if not math.isfinite(mean):
        return ""
    half = f" ± {reach * scale:.{digits}f}" if math.isfinite(reach) else ""
    return f"{mean * scale:.{digits}f}{half}"


def _times(value: float) -> str:
    return f"{value:.2f}×" if math.isfinite(value) else ""


def _kept(size: float) -> str:
    if not math.isfinite(size):
        return ""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _plain(value: Any) -> Any:
    if isinstance(value, Setting):
        return {"knobs": _plain(dict(value.knobs)), "lr": value.lr}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
