"""A small memory: a uniform sample of all rows that an update saw, kept for those after it, drawn beside the new rows.

    row n of the stream goes to place n of M while n < M, then with probability M / (n + 1) to a random place
    batch = M-rows drawn without replacement + new rows

Every occurrence of a row counts, as in the authors' code, but no row is kept twice: one that is kept already and comes
to a place again is renewed, with what the model says of it now, and another row of its batch has the place. With
`keep=("logits",)` a row keeps the model's answers, from where the update stood when it was stored (DER).

Paper:   "On Tiny Episodic Memories in Continual Learning" Chaudhry et al. 2019. https://arxiv.org/abs/1902.10486
Paper:   "Random Sampling with a Reservoir" Vitter 1985. https://doi.org/10.1145/3147.3165
Claim:   200 rows of memory forget at most half of what none forget, at equal updates.
Needs:   a feed named by `source` that it watches; its rows' column `row` tells rows apart.
Leaves:  `reservoir`: the rows' columns, and how many rows were seen.
Differs: the authors' buffer may hold a row several times.
Tags:    replay, task-free, online
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Stateful
from regraft.core.rows import Rows


@dataclass(frozen=True)
class reservoir:
    size: int = 200
    source: str = "new"
    keep: tuple[Literal["logits", "features"], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RegraftError(f"reservoir: the size is {self.size}; it must be at least 1")

    def begin(self, ctx: Context) -> _Reservoir:
        left = ctx.memory.get("reservoir", {"columns": {}, "seen": 0})
        if left["columns"] and (lacking := [name for name in self.keep if name not in left["columns"]]):
            raise RegraftError(
                f"reservoir: the memory that earlier updates left keeps no {lacking[0]}", do="Begin anew"
            )
        return _Reservoir(self, left["columns"], left["seen"], ctx.rng)


_LOTS = 1024
"""Lots that are cast at once."""


class _Reservoir(Stateful):
    state = ("columns", "seen", "own", "lots", "cast", "dice")

    def __init__(self, part: reservoir, columns: Mapping[str, Tensor], seen: int, dice: torch.Generator) -> None:
        self.part, self.wants, self.dice = part, part.keep, dice
        self.columns, self.seen = self._copied(columns), seen
        self.own = [-1] * self.count  # which row of this update lies in each place
        self.place: dict[int, int] = {}  # and where each of them lies
        self.lots: list[tuple[int, int]] = []  # rows of the stream to come that find a place by lot, and which
        self.cast = seen  # up to which row lots are cast

    def _copied(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: column[: self.part.size].clone() for name, column in columns.items()}

    @property
    def count(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def draw(self, count: int) -> Rows:
        return Rows(self.columns).take(torch.randperm(self.count, generator=self.dice)[:count])

    def observe(self, outcome: Outcome) -> None:
        if outcome.feed != self.part.source:
            return
        rows = outcome.rows
        found, free = self._found(rows.count), self.part.size - len(self.own)
        if not found and not free:
            return
        if foreign := [name for name, column in rows.items() if not isinstance(column, Tensor)]:
            raise RegraftError(f"reservoir: column {min(foreign)!r} is not a tensor, so it cannot be kept")
        kept = self._kept(rows, found, free)
        if not kept:
            return
        places, chosen = torch.tensor([list(kept), list(kept.values())])
        columns = {name: rows[name] for name in rows if name != "row"}
        for name, column in (columns | {name: outcome.outputs[name] for name in self.part.keep}).items():
            new = column.index_select(0, chosen if column.is_cpu else chosen.to(column.device)).cpu()
            held = self.columns.get(name, new[:0])
            if len(held) < len(self.own):
                held = self.columns[name] = torch.cat([held, new.new_zeros(len(self.own) - len(held), *new.shape[1:])])
            held.index_copy_(0, places, new)

    def _found(self, count: int) -> dict[int, int]:
        """The places that the next `count` rows of the stream come to by lot, by the rows' numbers among them."""
        first, self.seen = self.seen, self.seen + count
        while self.cast < self.seen:
            places = torch.rand(_LOTS, generator=self.dice, dtype=torch.float64).numpy()
            places *= np.arange(self.cast + 1, self.cast + 1 + _LOTS)
            lucky = np.flatnonzero(places < self.part.size)
            self.lots += zip((self.cast + lucky).tolist(), places[lucky].astype(int).tolist(), strict=True)
            self.cast += _LOTS
        if not (due := bisect.bisect_left(self.lots, (self.seen,))):
            return {}
        found, self.lots = self.lots[:due], self.lots[due:]
        return {row - first: place for row, place in found}

    def _kept(self, rows: Rows, found: Mapping[int, int], free: int) -> dict[int, int]:
        """Which rows of the batch are kept: their numbers in it, by the places that they have from now on.

        A row that lies there already keeps its place, and gives the one that it came to to a row that does not.
        """
        names = rows["row"].tolist() if "row" in rows else [-1 - i for i in range(rows.count)]  # none is another
        # Of a row that comes several times in one batch one counts: the last that found a place, or else the last.
        last = {names[i]: i for i in found}
        came = {i: found[i] for i in last.values()}
        given = [place for i, place in came.items() if names[i] in self.place]
        came |= {i: self.place[names[i]] for i in came if names[i] in self.place}
        if free or given:
            last = dict(zip(names, range(rows.count), strict=True)) | last
            strange = sorted(i for name, i in last.items() if name not in self.place)
            came |= {i: len(self.own) + n for n, i in enumerate(strange[:free])}
            came |= zip((i for i in strange[free:] if i not in came), given, strict=False)
            self.own += [-1] * len(strange[:free])
        kept = {place: i for i, place in sorted(came.items())}  # a place that is drawn twice has the later row
        for place, i in kept.items():
            self.place.pop(self.own[place], None)
            self.own[place] = names[i]
            if names[i] >= 0:
                self.place[names[i]] = place
        return kept

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"columns": self._copied(self.columns)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self.columns = self._copied(self.columns)
        self.place = {row: place for place, row in enumerate(self.own) if row >= 0}

    def leave(self) -> Mapping[str, Any]:
        return {"reservoir": {"columns": self.columns, "seen": self.seen}}
