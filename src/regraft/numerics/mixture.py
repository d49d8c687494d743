"""Rows of several sources: where they lie, how their sizes become shares, and draws that mix them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Stateful
from regraft.core.rows import Rows
from regraft.numerics.walk import Walk

# Rows of a lazy column that are read at once: such a column may bring the whole row with it.
_READ = 4096


def values(rows: Rows, name: str) -> Tensor | list[Any]:
    """A column of one value per row, read whole if it is lazy; none for rows that are empty."""
    if not rows:
        return []
    column = rows[name]
    if not isinstance(column, Tensor | list):
        column = Rows.join(rows.only(name).take(at) for at in torch.arange(rows.count).split(_READ))[name]
    if isinstance(column, Tensor) and column.dim() != 1:
        raise RegraftError(f"column {name!r} is {list(column.shape)}; it must have one value per row")
    found: Tensor | list[Any] = column
    return found


def places_by(rows: Rows, name: str) -> dict[Any, Tensor]:
    """The places of the rows that share a value of column `name`: int64 [rows of that value] by value, ascending."""
    column = values(rows, name)
    if isinstance(column, Tensor):
        unique, which = column.cpu().unique(return_inverse=True)
        names: list[Any] = unique.tolist()
    else:
        names = sorted(set(column))
        number = {value: i for i, value in enumerate(names)}
        which = torch.tensor([number[value] for value in column], dtype=torch.long)
    sizes = which.bincount(minlength=len(names)).tolist()
    return dict(zip(names, which.argsort(stable=True).split(sizes), strict=True)) if names else {}


def sizes_of(places: Mapping[Any, Tensor]) -> Tensor:
    """|D_i|, float64 [sources]."""
    return torch.tensor([len(p) for p in places.values()], dtype=torch.float64)


def tempered(sizes: Tensor, tau: float) -> Tensor:
    """p_tau(i) = |D_i|^(1/tau) / sum_j |D_j|^(1/tau), float64 [sources]; tau 1: in proportion, infinity: all alike."""
    if not tau > 0:
        raise RegraftError(f"the temperature tau is {tau}; it must be over 0")
    return (sizes.double().log() / tau).softmax(0)


class Mixture(Stateful):
    """Draws places from several sources: each draw's source at random, its place by that source's walk.

    Args:
        places: the places of each source, int64 [rows of that source].
        dice: the generator of the walks and of the choice between them.
    """

    state = ("walks",)

    def __init__(self, places: Sequence[Tensor], dice: torch.Generator) -> None:
        self.places, self.dice = list(places), dice
        self.walks = [Walk(len(p), dice) for p in places]

    def next(self, count: int, p: Tensor) -> Tensor:
        """The next `count` places, int64 [count], with sources chosen by `p` [sources]; none if there is no source."""
        if not self.places or not count:
            return torch.empty(0, dtype=torch.long)
        if len(self.places) == 1:
            return self.places[0][self.walks[0].next(count)]
        which = torch.multinomial(p, count, replacement=True, generator=self.dice)
        drawn = torch.empty(count, dtype=torch.long)
        for i, n in enumerate(which.bincount(minlength=len(self.places)).tolist()):
            if n:
                drawn[which == i] = self.places[i][self.walks[i].next(n)]
        return drawn
