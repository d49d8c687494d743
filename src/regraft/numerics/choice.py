"""Some of the rows, and answers to rows that are asked group by group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from regraft.core.rows import Rows


def some(rows: Rows, count: int, dice: torch.Generator) -> Rows:
    """So many of the rows, at random and in random order; all, where there are fewer."""
    return rows.take(torch.randperm(rows.count, generator=dice)[:count])


def at_most(rows: Rows, count: int | None, dice: torch.Generator) -> Rows:
    """The rows as they are; where there are more than `count`, so many of them at random. None: no limit."""
    return rows if count is None or rows.count <= count else some(rows, count, dice)


def by_group(rows: Rows, which: Tensor, answer: Callable[[Rows, int], Tensor]) -> Tensor:
    """What `answer(rows of a group, the group)` says of every row, [rows, ...]; `which`: each row's group [rows]."""
    groups = which.unique().tolist()
    places = [(which == group).nonzero().flatten() for group in groups]
    said = [answer(rows.take(at.cpu()), group) for at, group in zip(places, groups, strict=True)]
    return torch.cat(said)[torch.cat(places).argsort()]
