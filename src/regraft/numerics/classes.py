"""What an update has of its rows: its task, the classes that it brings or lacks, the rows that are held out."""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Sampler, Takes
from regraft.numerics.mixture import values


def old_and_new(ctx: Context, source: str = "new") -> tuple[Tensor, Tensor]:
    """The classes of earlier updates that the rows named `source` lack, and those that these rows have.

    Both int64, ascending. Without such rows none are new.
    """
    known = ctx.memory.get("classes", torch.empty(0, dtype=torch.long))
    rows = ctx.data.get(source)
    new = torch.as_tensor(values(rows, "y") if rows else [], dtype=torch.long).cpu().unique()
    return known[~torch.isin(known, new)], new


def task_of(ctx: Context, source: str, who: str) -> int | None:
    """The task that the rows named `source` are of; None where there are no such rows, or they do not say it.

    Raises RegraftError for rows of several tasks; `who` is who asks.
    """
    rows = ctx.data.get(source)
    if rows is None or "task" not in rows:
        return None
    said = torch.as_tensor(values(rows, "task")).unique().tolist()
    if len(said) != 1:
        raise RegraftError(f"{who}: the rows {source!r} are of the tasks {said}, not of one")
    return int(said[0])


def taken_by(ctx: Context, held: Sampler | None, part: str) -> Tensor:
    """The places of the new rows that a sampler took for itself when it began; `part` is who asks."""
    if held is None:
        return torch.empty(0, dtype=torch.long)
    run = ctx.begin(held)
    if not isinstance(run, Takes) or run.taken is None:
        raise RegraftError(
            f"{part}: {held} takes no rows when it begins", do="Hold rows out with exemplars(adds='before')"
        )
    return run.taken
