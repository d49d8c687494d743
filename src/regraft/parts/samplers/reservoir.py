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


_NONE = torch.empty(0, dtype=torch.long)


class _Reservoir(Stateful):
    state = ("columns", "seen", "own", "dice")

    def __init__(self, part: reservoir, columns: Mapping[str, Tensor], seen: int, dice: torch.Generator) -> None:
        self.part, self.wants, self.dice = part, part.keep, dice
        self.columns, self.seen = {name: column[: part.size].clone() for name, column in columns.items()}, seen
        self.own = torch.full((self.count,), -1)  # which row of this update lies in each place, [count]

    @property
    def count(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def draw(self, count: int) -> Rows:
        return Rows(self.columns).take(torch.randperm(self.count, generator=self.dice)[:count])

    def observe(self, outcome: Outcome) -> None:
        if outcome.feed != self.part.source:
            return
        rows = {n: c for n, c in outcome.rows.items() if n != "row" and isinstance(c, Tensor)}
        rows |= {name: outcome.outputs[name] for name in self.part.keep}
        if foreign := outcome.rows.keys() - rows.keys() - {"row"}:
            raise RegraftError(f"reservoir: column {min(foreign)!r} is not a tensor, so it cannot be kept")
        names = outcome.rows["row"] if "row" in outcome.rows else torch.full((outcome.rows.count,), -2)
        chosen, places = self._places(names)
        if not len(chosen):
            return
        for name, column in rows.items():
            new = column[chosen].cpu()
            held = self.columns.get(name, new[:0])
            if len(held) < len(self.own):
                held = torch.cat([held, new.new_zeros(len(self.own) - len(held), *new.shape[1:])])
            self.columns[name] = held.index_copy(0, places, new)

    def _places(self, names: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows of the batch are kept, and where, both [kept].

        A row that lies there already keeps its place, and gives the one that it came to to a row that does not.
        """
        size, filled, own, rows = self.part.size, len(self.own), self.own.numpy(), names.numpy()
        number = self.seen + np.arange(len(rows))
        self.seen += len(rows)
        dice = torch.rand(len(rows), generator=self.dice, dtype=torch.float64).numpy()
        places = (dice * (number + 1)).astype(np.int64)
        if filled == size and not (places < size).any():
            return _NONE, _NONE
        last = np.ones(len(rows), dtype=bool)
        if len(set(rows.tolist())) < len(rows) and rows.min() >= 0:
            # Of a row that comes several times in one batch one counts: the last that found a place, or else the last.
            rank = np.arange(len(rows)) + len(rows) * (places < size)
            last = ~((rows[:, None] == rows) & (rank[:, None] < rank)).any(1)
        kept = (places < size) & last
        same = (rows[:, None] == own) & (rows[:, None] >= 0)
        known = same.any(1)
        fresh = np.flatnonzero(~known & last)[: size - filled]
        if known.any():
            given = places[known & kept]
            places[known] = same.argmax(1)[known]
            heirs = np.setdiff1d(np.flatnonzero(~known & ~kept & last), fresh)[: len(given)]
            places[heirs], kept[heirs] = given[: len(heirs)], True
        places[fresh], kept[fresh] = filled + np.arange(len(fresh)), True
        at = np.full(size, -1)
        at[places[kept]] = np.flatnonzero(kept)  # a place that is drawn twice has the later row
        chosen = np.sort(at[at >= 0])
        places = places[chosen]
        if len(fresh):
            own = np.concatenate([own, np.full(len(fresh), -1)])
        own[places] = rows[chosen]
        self.own = torch.from_numpy(own)
        return torch.from_numpy(chosen), torch.from_numpy(places)

    def leave(self) -> Mapping[str, Any]:
        return {"reservoir": {"columns": self.columns, "seen": self.seen}}
