"""A small memory: a uniform sample of all rows that an update saw, kept for those after it, drawn beside the new rows.

    row n of the stream goes to place n of M while n < M, then with probability M / (n + 1) to a random place
    batch = M-rows drawn without replacement + new rows

Every occurrence of a row counts, as in the authors' code, but no row is kept twice: one that is drawn again takes its
own place, with what the model says of it now. With `keep=("logits",)` the model's answers are kept with the row, taken
from where the update stood when it was stored (DER).

Paper:   "On Tiny Episodic Memories in Continual Learning" Chaudhry et al. 2019. https://arxiv.org/abs/1902.10486
Paper:   "Random Sampling with a Reservoir" Vitter 1985. https://doi.org/10.1145/3147.3165
Claim:   200 rows of memory forget at most half of what none forget, at equal updates.
Needs:   a feed named by `source` that it watches; its rows' column `row` tells rows apart.
Leaves:  `reservoir`: the rows' columns, and how many rows were seen.
Differs: the authors' buffer may hold a row several times.
Tags:    continual learning, replay, task-free, online
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
        for name, column in rows.items():
            new = column[chosen].cpu()
            old = self.columns.get(name, new[:0])
            grown = torch.cat([old, new.new_zeros(len(self.own) - len(old), *new.shape[1:])])
            grown[places] = new
            self.columns[name] = grown

    def _places(self, names: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows of the batch are kept, and where, both [kept]; rows that lie there already keep their places."""
        size, filled = self.part.size, len(self.own)
        number = self.seen + torch.arange(len(names))
        self.seen += len(names)
        drawn = (torch.rand(len(names), generator=self.dice, dtype=torch.float64) * (number + 1)).long()
        same = (names[:, None] == self.own) & (names[:, None] >= 0)
        known = same.any(1)
        # Of a row that comes twice in one batch, the last occurrence is kept or not.
        again = ((names[:, None] == names) & (names[:, None] >= 0)).triu(1).any(1)
        fresh = (~known & ~again).nonzero()[:, 0]
        places = torch.where(known, same.int().argmax(1) if filled else drawn, drawn)
        kept = (drawn < size) & ~again
        places[fresh[: size - filled]] = torch.arange(filled, min(size, filled + len(fresh)))
        kept[fresh[: size - filled]] = True
        chosen = kept.nonzero()[:, 0]
        # A place that is drawn twice has the later row.
        last = torch.full((size,), -1).scatter_reduce_(0, places[chosen], chosen, "amax")
        chosen = last[last >= 0].sort().values
        places = places[chosen]
        if (grow := int(places.max()) + 1 - filled if len(places) else 0) > 0:
            self.own = torch.cat([self.own, torch.full((grow,), -1)])
        self.own[places] = names[chosen]
        return chosen, places

    def leave(self) -> Mapping[str, Any]:
        return {"reservoir": {"columns": self.columns, "seen": self.seen}}
