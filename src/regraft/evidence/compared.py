"""What a comparison of methods found, and the one that comes with regraft. Imports no torch.

`records/_continual.json` holds the `results.json` of one or several calls of `regraft bench continual`, in a list; no
ground is in two of them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from regraft.evidence.cards import OURS

BASELINE = "naive"
RECORDS = OURS.root / "evidence" / "records"
COLUMNS = ("method", "average", "forgetting", "cost", "kept", "setting")


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
        refused: why the method cannot act here; then nothing else is said.
    """

    average: float = math.nan
    forgetting: float = math.nan
    better: Literal["higher", "lower"] = "higher"
    seconds: float = math.nan
    updates: int = 0
    kept: int = 0
    refused: str = ""


@dataclass(frozen=True)
class Row:
    """One method on one ground.

    Attributes:
        setting: the one that was kept. `tuned`: its average on the tuning streams, none where nothing was tuned.
        found: of the judged streams, by seed.
        cost: the median over seeds of its seconds, as a multiple of plain training's on the same stream.
        refused: why it cannot act here; then nothing is measured.
    """

    method: str
    setting: Setting
    tuned: float | None
    found: tuple[Found, ...]
    cost: float
    refused: str = ""

    def mean(self, of: Literal["average", "forgetting", "kept"]) -> tuple[float, float]:
        """The mean over seeds and half its 95% interval (t); the half is not a number with one seed."""
        from scipy.special import stdtrit

        values = [getattr(f, of) for f in self.found]
        if len(values) < 2:
            return values[0], math.nan
        reach = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
        return statistics.fmean(values), reach


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: by ground, a row for every method, the best average first, what cannot act last."""

    grounds: Mapping[str, str]
    rows: Mapping[str, tuple[Row, ...]]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    configurations: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where there is no number."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def read(said: Mapping[str, Any]) -> Comparison:
    """A comparison from its JSON."""
    rows = {
        ground: tuple(
            Row(
                row["method"],
                Setting(tuple((name, _tupled(value)) for name, value in row["setting"][0]), row["setting"][1]),
                row["tuned"],
                tuple(Found(**_numbers(found)) for found in row["found"]),
                math.nan if row["cost"] is None else row["cost"],
                row["refused"],
            )
            for row in of
        )
        for ground, of in said["rows"].items()
    }
    return Comparison(said["grounds"], rows, tuple(said["seeds"]), tuple(said["tuning_seeds"]), said["configurations"])


@cache
def measured() -> tuple[Comparison, ...]:
    """What regraft's own methods came to."""
    return tuple(map(read, json.loads((RECORDS / "_continual.json").read_text(encoding="utf-8"))))


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


def cells(row: Row) -> tuple[str, ...]:
    """A row of a table, as COLUMNS names it."""
    scale, digits = (100, 1) if row.found[0].better == "higher" else (1, 3)
    average, forgetting = (_with_reach(*row.mean(of), scale, digits) for of in ("average", "forgetting"))
    knobs = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.setting.knobs
    ]
    knobs += [f"lr×{row.setting.lr:.2g}"] if row.setting.lr != 1 else []
    return (
        row.method,
        average,
        forgetting,
        f"{row.cost:.2f}×",
        _kept(row.mean("kept")[0]),
        " ".join(knobs) or "defaults",
    )


def _with_reach(mean: float, reach: float, scale: float, digits: int) -> str:
    if not math.isfinite(mean):
        return ""
    half = f" ± {reach * scale:.{digits}f}" if math.isfinite(reach) else ""
    return f"{mean * scale:.{digits}f}{half}"


def _kept(size: float) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in said.items()}


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
