"""Several named rewards in one: weighted, gated, and each for rows of its kind.

    R_r = sum_k w_k(t) g_rk R_rk        g_rk: 1 where r is of k's kind and every gate of k is open, else 0

`by` gives a part's own rewards R_k: any transform that gives a column `reward`, such as `verified`, `length_reward` and
`format_reward`. They stay, as they were given, in the column `reward/<name>`, where constraints and reports read them;
the sum is the column `reward`. A weight may be a schedule; one of 0 is a reward that is only told.

A gate (other, least) is open where the reward of that name is at least so much. `kind`, a column and a value of it: the
reward is for these rows alone. Its transform is not shown others, and `reward/<name>` is NaN there.

Needs: what its transforms need; the columns that kinds name.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, ScheduleRun, Transform
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards
from regraft.numerics.knobs import begun, worth
from regraft.numerics.mixture import places_by


@dataclass(frozen=True)
class Reward:
    name: str
    by: Transform
    weight: Knob = 1.0
    gates: tuple[tuple[str, float], ...] = ()
    kind: tuple[str, str | int] | None = None


@dataclass(frozen=True)
class rewards:
    parts: tuple[Reward, ...]

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise RegraftError(f"rewards: the names are {names}; one at least, and none twice")
        for part in self.parts:
            if isinstance(part.weight, float | int) and not 0 <= part.weight < float("inf"):
                raise RegraftError(f"rewards: the weight of {part.name!r} is {part.weight:g}; it must be 0 or more")
            if unknown := [name for name, _ in part.gates if name not in names]:
                raise RegraftError(f"rewards: a gate of {part.name!r} asks for {unknown[0]!r}; there are {names}")

    def begin(self, ctx: Context) -> _Rewards:
        return _Rewards(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _Rewards:
    def __init__(self, part: rewards, ctx: Context) -> None:
        self.progress: Callable[[], Progress] = ctx.progress
        self.parts: list[tuple[Reward, Transform, float | ScheduleRun]] = [
            (each, ctx.at_work(each.by), begun(each.weight, ctx.begin)) for each in part.parts
        ]

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        faults = [""] * rows.count
        R = {part.name: _given(part, by, rows, ctx, faults) for part, by, _ in self.parts}
        total = torch.zeros(rows.count, dtype=torch.float64)
        for part, _, weight in self.parts:
            own = R[part.name]
            counts = ~own.isnan()
            for name, least in part.gates:
                counts &= R[name] >= least
            total += worth(weight, self.progress()) * own.masked_fill(~counts, 0.0)
        columns = {f"reward/{name}": own.float() for name, own in R.items()}
        return rows.having(**columns, reward=total.float(), fault=faults)


def _given(part: Reward, by: Transform, rows: Rows, ctx: Context, faults: list[str]) -> Tensor:
    """R_k, float64 [rows], NaN in rows not of its kind; the first fault of each row is kept."""
    at = torch.arange(rows.count)
    if part.kind is not None:
        column, value = part.kind
        at = places_by(rows, column).get(value, at[:0])
    R = torch.full((rows.count,), torch.nan, dtype=torch.float64)
    if not len(at):
        return R
    found = by(rows if part.kind is None else rows.take(at), ctx)
    if found.count != len(at) or "reward" not in found:
        raise RegraftError(f"rewards: what gives {part.name!r} must keep every row and give a column `reward`")
    R[at] = finite_rewards(found["reward"], f"reward/{part.name}", at)
    for row, fault in zip(at.tolist(), found["fault"], strict=True) if "fault" in found else ():
        faults[row] = faults[row] or fault
    return R
