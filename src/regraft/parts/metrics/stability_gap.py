"""How deep a held-out loss or score dips in an update, when, and how long it takes to come back.

    d(t)     = a(0) - a(t)                             scores; a(t) - a(0) for losses
    depth    = max_t d(t)        at = the first t of it
    recovery = the first t >= at with d(t) <= 0        none: not recovered
    area     = integral of max(d, 0), lines between the records
    change   = d(end)

The dip of general abilities comes first, before the new ones help: the gradient of the new text acts at once, the one
that keeps the old ones only after they are lost.

Paper:   "Efficient Continual Pre-training by Mitigating the Stability Gap" Guo et al. 2024. https://arxiv.org/abs/2406.14833
Claim:   sees the dip of plain continued pre-training; the best tenth for several epochs with replay at least halves it.
Needs:   the update's curve in memory under `curve`: the engine's records, `held/<name>` in those that were measured.
Differs: area and change are ours: they tell a long shallow dip from a short one, and where it ended. Written from the
         abstract and the catalogue's row; the full text could not be opened.
Tags:    forgetting, task-free
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model
from regraft.numerics.finite import finite

Better = Literal["lower", "higher"]
Over = Literal["step", "tokens"]
HELD = "held/"


@dataclass(frozen=True)
class Gap:
    """A dip: `depth` and `change` in the unit of the values, `at` and `recovery` (None: never) in that of the steps."""

    depth: float
    at: float
    recovery: float | None
    area: float
    change: float

    def numbers(self, name: str) -> dict[str, float]:
        """By measure and name; `recovery` only where there was one."""
        found = {"depth": self.depth, "at": self.at, "area": self.area, "change": self.change}
        if self.recovery is not None:
            found["recovery"] = self.recovery
        return {f"{k}/{name}": v for k, v in {**found, "recovered": float(self.recovery is not None)}.items()}


def measure_gap(steps: ArrayLike, values: ArrayLike, *, better: Better, name: str = "curve") -> Gap:
    """The gap of `values` [records] at rising `steps` [records]; the first record is the state before the update.

    Raises:
        RegraftError: no record, a value that is not finite, or steps that do not rise.
    """
    t, a = finite(steps, "steps", where=name), finite(values, "values", where=name)
    if t.ndim != 1 or t.shape != a.shape or not t.size:
        raise RegraftError(f"{t.size} steps and {a.size} values are not a curve", where=name)
    if (np.diff(t) <= 0).any():
        raise RegraftError("the steps do not rise", where=name, do="Give the records of one update, in order")
    d = a - a[0] if better == "lower" else a[0] - a
    deepest = int(d.argmax())
    back = np.flatnonzero(d[deepest:] <= 0)
    recovery = float(t[deepest + back[0]]) if back.size else None
    return Gap(float(d[deepest]), float(t[deepest]), recovery, _area(t, d), float(d[-1]))


def _area(t: np.ndarray, d: np.ndarray) -> float:
    """The integral of max(d, 0); a line that crosses 0 counts as the triangle above it."""
    p, width = np.maximum(d, 0), np.diff(t)
    rise = np.abs(np.diff(d))
    crosses = d[:-1] * d[1:] < 0
    whole = (p[:-1] + p[1:]) / 2
    triangle = np.maximum(p[:-1], p[1:]) ** 2 / (2 * np.where(crosses, rise, 1.0))
    return float((width * np.where(crosses, triangle, whole)).sum())


def gaps(
    records: Sequence[Mapping[str, float]],
    *,
    of: Sequence[str] = (),
    better: Better = "lower",
    over: Over = "step",
) -> dict[str, Gap]:
    """The gap of every monitor in the engine's curve records, or of those named in `of`."""
    known = sorted({k.removeprefix(HELD) for r in records for k in r if k.startswith(HELD)})
    if not known:
        raise RegraftError("the curve holds no held-out values", do="Give the update monitors")
    if missing := sorted(set(of) - set(known)):
        raise RegraftError(f"the curve holds no {', '.join(missing)}; it holds {known}")
    found = {}
    for name in of or known:
        kept = [r for r in records if HELD + name in r]
        found[name] = measure_gap([r[over] for r in kept], [r[HELD + name] for r in kept], better=better, name=name)
    return found


@metric
def stability_gap(
    model: Model,
    ctx: Context,
    *,
    curve: str = "curve",
    of: tuple[str, ...] = (),
    better: Better = "lower",
    over: Over = "step",
) -> Measurement:
    if curve not in ctx.memory:
        raise RegraftError(f"no curve {curve!r} in memory; there are {sorted(ctx.memory)}")
    found = gaps(ctx.memory[curve], of=of, better=better, over=over)
    return Measurement({k: v for name, gap in found.items() for k, v in gap.numbers(name).items()})
