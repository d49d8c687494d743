"""Classes that an update brings, and those that it lacks."""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.parts import Context
from regraft.numerics.mixture import values


def old_and_new(ctx: Context, source: str = "new") -> tuple[Tensor, Tensor]:
    """The classes of earlier updates that the rows named `source` lack, and those that these rows have.

    Both int64, ascending. Without such rows none are new.
    """
    known = ctx.memory.get("classes", torch.empty(0, dtype=torch.long))
    rows = ctx.data.get(source)
    new = torch.as_tensor(values(rows, "y") if rows else [], dtype=torch.long).cpu().unique()
    return known[~torch.isin(known, new)], new
