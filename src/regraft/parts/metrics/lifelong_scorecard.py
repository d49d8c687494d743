"""One scorecard for any lifelong learner: keeping, transfer both ways, speed of learning and of recovery.

    p: learning blocks, smoothed; e: means of evaluation blocks; clamped to the task's 10-90 percentiles, in [1, 101]
    maintenance           = mean(e - e_ref)         e_ref: the first since the task was last learned; e: later ones
    transfer i > j        = (e2 - e1) / (e2 + e1)   evaluations of j around the learning of i; as a ratio, e2 / e1
                            forward: before j was ever learned, backward: after
    relative_performance  = sum(p) / sum(p_STE)     over the same length; STE: a single-task expert
    sample_efficiency     = (sat / sat_STE) · (exp_STE / exp), sat = max p, exp its first index
                            0 where p falls or sat < 0.2 sat_STE
    recovery_time         = first index with p >= the end (last tenth) of the task's block before; n + 1 if never
    performance_recovery  = - Theil-Sen slope of the recovery times over the blocks

The lifetime value is the mean over tasks (transfer: over pairs). What a log cannot tell is left out.

Paper:   "A Domain-Agnostic Approach for Characterization of Lifelong Learning Systems" Baker et al. 2023. https://arxiv.org/abs/2301.07799
Claim:   replay has a higher maintenance than naive training; no affine change of the raw metric changes a value.
Needs:   rows `log`, blocks in order: `kind` (learning or evaluation), `task`, `performance` (one value an experience);
         rows that `experts` names: `task`, `performance`, all learning.
Differs: from the reference code (l2metrics): blocks are smoothed once, with a centred window, not twice; every value of
         a pair counts, not the first alone; of two tasks learned between two evaluations neither is credited.
Tags:    forgetting, transfer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from regraft.core.define import metric
from regraft.core.parts import Context, Measurement, Model
from regraft.numerics.lifelog import Block, Vector, normalise, read_blocks

Measures = dict[str, float]
Better = Literal["lower", "higher"]
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Scorecard:
    """Measures of the whole life, of each task, and of each pair of tasks (`learned > evaluated`)."""

    lifetime: Measures
    tasks: Mapping[str, Measures]
    pairs: Mapping[str, Measures]


def scorecard(
    log: Sequence[Block],
    experts: Sequence[Block] = (),
    *,
    better: Better = "higher",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Scorecard:
    """The scorecard of a log.

    Args:
        experts: what single-task experts did with a task alone; several of one task are averaged.
        better: "lower" for losses.
        ranges: by task, the raw values that become the ends of the scale, instead of the percentiles.
    """
    scaled = normalise([*log, *experts], higher=better == "higher", ranges=ranges)
    life, curves = scaled[: len(log)], scaled[len(log) :]
    tasks = {}
    for task in dict.fromkeys(b.task for b in log):
        own = [b for b in life if b.task == task]
        learning = [b.performance for b in own if b.kind == "learning"]
        against = [_against(np.concatenate(learning), c.performance) for c in curves if c.task == task and learning]
        tasks[task] = {**_maintenance(own), **_recovery(learning), **_means(against)}
    pairs = _transfers(life)
    return Scorecard(_means([*tasks.values(), *pairs.values()]), tasks, pairs)


def _maintenance(own: Sequence[Block]) -> Measures:
    changes: list[float] = []
    learned, reference = False, None
    for block in own:
        if block.kind == "learning":
            learned, reference = True, None
        elif reference is not None:
            changes.append(_level(block) - reference)
        elif learned:
            reference = _level(block)
    return {"maintenance": float(np.mean(changes))} if changes else {}


def _transfers(life: Sequence[Block]) -> dict[str, Measures]:
    events: dict[str, list[Measures]] = {}
    for j in dict.fromkeys(b.task for b in life):
        evaluated = [i for i, b in enumerate(life) if b.kind == "evaluation" and b.task == j]
        for first, second in pairwise(evaluated):
            between = {b.task for b in life[first:second] if b.kind == "learning"}
            if len(between) != 1 or j in between:
                continue
            e1, e2 = _level(life[first]), _level(life[second])
            way = "backward" if any(b.kind == "learning" and b.task == j for b in life[:first]) else "forward"
            event = {f"{way}_transfer": (e2 - e1) / (e2 + e1), f"{way}_ratio": e2 / e1}
            events.setdefault(f"{between.pop()} > {j}", []).append(event)
    return {pair: _means(each) for pair, each in events.items()}


def _recovery(learning: Sequence[Vector]) -> Measures:
    from scipy.stats import theilslopes

    times = []
    for before, p in pairwise(learning):
        back = _reaches(p, before[int(0.9 * before.size) :].mean())
        times.append(back[0] if back else p.size + 1)
    found = {"recovery_time": float(np.mean(times))} if times else {}
    return found | ({"performance_recovery": -float(theilslopes(times)[0])} if len(times) > 1 else {})


def _against(p: Vector, p_STE: Vector) -> Measures:
    n = min(p.size, p_STE.size)
    found = {"relative_performance": float(p[:n].sum() / p_STE[:n].sum())}
    sat, sat_STE = float(p.max()), float(p_STE.max())
    exp, exp_STE = _reaches(p, sat)[0], _reaches(p_STE, sat_STE)[0]
    if not (exp and exp_STE):
        return found
    trend = float((np.arange(p.size) - (p.size - 1) / 2) @ p)
    valid = trend >= -_ROUNDING * p.size**2 and sat >= 0.2 * sat_STE
    return found | {"sample_efficiency": sat / sat_STE * exp_STE / exp if valid else 0.0}


def _reaches(p: Vector, level: float) -> list[int]:
    """Where p is at least `level`, up to rounding: a plateau begins where it begins."""
    return np.flatnonzero(p >= level - _ROUNDING).tolist()


def _level(block: Block) -> float:
    return float(block.performance.mean())


def _means(each: Sequence[Measures]) -> Measures:
    """The mean of every measure over those that have it."""
    names = dict.fromkeys(n for measures in each for n in measures)
    return {n: float(np.mean([m[n] for m in each if n in m])) for n in names}


@metric
def lifelong_scorecard(
    model: Model, ctx: Context, *, log: str = "log", experts: str | None = None, better: Better = "higher"
) -> Measurement:
    curves = [] if experts is None else read_blocks(ctx.rows(experts), experts)
    found = scorecard(read_blocks(ctx.rows(log), log), curves, better=better)
    return Measurement(found.lifetime, {"tasks": found.tasks, "pairs": found.pairs})
