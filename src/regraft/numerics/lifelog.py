"""The log of a learner's life: blocks of learning and of evaluation, put on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.finite import finite

Vector: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["learning", "evaluation"]

LOWEST, SCALE = 1.0, 100.0
"""Performance lies in [1, 101]: ratios and contrasts need values that are not 0."""
_CLAMP = (0.1, 0.9)
_SMOOTH_SHARE, _SMOOTH_MOST, _SMOOTH_LEAST = 0.2, 100, 3


@dataclass(frozen=True, eq=False)
class Block:
    """A stretch of a life in which one task is learned or evaluated: `performance` [experiences]."""

    kind: Kind
    task: str
    performance: Vector

    @classmethod
    def of(cls, kind: Kind, task: str, performance: ArrayLike, *, where: object = None) -> Block:
        """A checked block."""
        if kind not in get_args(Kind):
            raise RegraftError(f"a block is 'learning' or 'evaluation', not {kind!r}", where=where)
        values = finite(performance, f"performance on {task!r}", where=where)
        if values.ndim != 1 or not values.size:
            raise RegraftError(f"a block of {task!r} has no list of performances", where=where)
        return cls(kind, task, values)


def read_blocks(rows: Rows, where: str) -> list[Block]:
    """One block a row: columns `task`, `performance`, and `kind` if not all are learning."""
    kinds = rows["kind"] if "kind" in rows else ["learning"] * rows.count
    columns = zip(kinds, rows["task"], rows["performance"], strict=True)
    return [Block.of(kind, task, p, where=f"{where}, row {i}") for i, (kind, task, p) in enumerate(columns)]


def smooth(values: Vector) -> Vector:
    """Moving average over a fifth of the values, at most 100, mirrored at the ends; as they are if that is under 3."""
    from scipy.ndimage import uniform_filter1d

    window = min(int(_SMOOTH_SHARE * values.size), _SMOOTH_MOST)
    if window < _SMOOTH_LEAST:
        return values
    # The filter adds and subtracts along the curve; without the offset it loses no digits of small differences.
    middle = values.mean()
    return np.asarray(uniform_filter1d(values - middle, window, mode="mirror") + middle)


def normalise(
    blocks: Sequence[Block], *, higher: bool, ranges: Mapping[str, tuple[float, float]] | None = None
) -> list[Block]:
    """Blocks with learning smoothed, each task clamped and rescaled to [1, 101], higher always better.

    Args:
        higher: whether higher is better in the blocks as they come.
        ranges: by task, the values to clamp to; if not given, the 10th and 90th percentile of all that the task's
            blocks hold. A task without spread is 1 throughout.
    """
    sign = 1.0 if higher else -1.0
    blocks = [replace(b, performance=sign * b.performance) for b in blocks]
    blocks = [replace(b, performance=smooth(b.performance)) if b.kind == "learning" else b for b in blocks]
    bounds = {}
    for task in {b.task for b in blocks}:
        if ranges and task in ranges:
            bounds[task] = sorted((sign * finite(ranges[task], f"range of {task!r}")).tolist())
        else:
            bounds[task] = np.quantile(
                np.concatenate([b.performance for b in blocks if b.task == task]), _CLAMP
            ).tolist()
    return [replace(b, performance=_rescale(b.performance, *bounds[b.task])) for b in blocks]


def _rescale(p: Vector, low: float, high: float) -> Vector:
    return LOWEST + SCALE * (p.clip(low, high) - low) / (high - low) if high > low else np.full_like(p, LOWEST)
