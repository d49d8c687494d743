"""Exemplars: a memory of fixed size with as many rows of every class as of any other, chosen once an update.

    p_k = argmax_r <k mu - sum_{j<k} phi(p_j), phi(r)>        mu = mean_r phi(r), phi: features of length 1 (herding)

so that the mean of the first k exemplars of a class is near that of all its rows, for every k: as classes arrive, the
last exemplars of each make room. `choose="random"` takes a class's rows in random order. A class with too few rows
leaves its places to others. Of a class that comes again, exemplars and new rows are ranked together, and an exemplar
stands for all the rows that it was chosen from.

`adds`: the rows of an update join `after` it, ranked by the features it learned; `before` it, so that they are drawn
too (a training on the memory alone); or `never` (one that finds them there). What another memory takes, `apart`, this
one does not have. With `keep=("logits",)` an exemplar keeps what the model says of it when it joins.

Paper:   "iCaRL: Incremental Classifier and Representation Learning" Rebuffi et al. 2017. https://arxiv.org/abs/1611.07725
Paper:   "GDumb: A Simple Approach that Questions Our Progress in Continual Learning" Prabhu et al. 2020.
         https://doi.org/10.1007/978-3-030-58536-5_31
Needs:   the rows named by `source`, with classes in column `y`; a model that gives features, to herd.
Leaves:  `key`: the rows' columns, class by class, best first; the classes and how many rows of each were seen.
Differs: the greedy memory of GDumb is filled row by row; of rows in random order it keeps what `random` keeps. All
         places are filled: what the size leaves over classes goes to some of them, at random.
Tags:    replay, class-incremental
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Sampler, Stateful
from regraft.core.rows import Rows
from regraft.numerics.classes import taken_by
from regraft.numerics.features import features_of, outputs_of
from regraft.numerics.mixture import values
from regraft.numerics.walk import Walk

NOTHING = {"columns": {}, "classes": torch.empty(0, dtype=torch.long), "seen": torch.empty(0, dtype=torch.long)}


@dataclass(frozen=True)
class exemplars:
    size: int = 200
    choose: Literal["herding", "random"] = "herding"
    adds: Literal["after", "before", "never"] = "after"
    apart: Sampler | None = None
    source: str = "new"
    key: str = "exemplars"
    keep: tuple[Literal["logits"], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RegraftError(f"exemplars: the size is {self.size}; it must be at least 1")
        if self.choose not in ("herding", "random"):
            raise RegraftError(f"exemplars: choose is {self.choose!r}; it must be 'herding' or 'random'")
        if self.adds not in ("after", "before", "never"):
            raise RegraftError(f"exemplars: adds is {self.adds!r}; it must be 'after', 'before' or 'never'")

    def begin(self, ctx: Context) -> _Exemplars:
        return _Exemplars(self, ctx)


class _Exemplars(Stateful):
    state = ("walk", "dice")

    def __init__(self, part: exemplars, ctx: Context) -> None:
        self.part, self.ctx, self.dice = part, ctx, ctx.rng
        self.left: Mapping[str, Any] = ctx.memory.get(part.key, NOTHING)
        if self.left["columns"] and (lacking := [name for name in part.keep if name not in self.left["columns"]]):
            raise RegraftError(f"exemplars: those that earlier updates left keep no {lacking[0]}", do="Begin anew")
        self.apart = taken_by(ctx, part.apart, "exemplars")
        self.taken: Tensor | None = None  # the places of the new rows that joined at the beginning
        if part.adds == "before":
            self.left, self.taken = self._chosen()
        self.rows = Rows(self.left["columns"])
        self.walk = Walk(self.rows.count, self.dice)

    def draw(self, count: int) -> Rows:
        return self.rows.take(self.walk.next(min(count, self.rows.count)))

    def leave(self) -> Mapping[str, Any]:
        return {self.part.key: self._chosen()[0] if self.part.adds == "after" else self.left}

    def _chosen(self) -> tuple[dict[str, Any], Tensor]:
        """The exemplars once the new rows have joined, and the places of those that did."""
        held, new = Rows(self.left["columns"]), self.ctx.rows(self.part.source)
        if self.part.keep:
            new = new.having(logits=outputs_of(self.ctx.models["student"], new, "logits")[0])
        y = torch.cat([torch.as_tensor(values(rows, "y"), dtype=torch.long).cpu() for rows in (held, new)])
        free = torch.ones(len(y), dtype=torch.bool)
        free[held.count + self.apart] = False
        classes, which = y.unique(return_inverse=True)
        kept, came = which[: held.count].bincount(minlength=len(classes)), which[free].bincount(minlength=len(classes))
        came = came - kept
        seen = torch.zeros_like(kept)
        seen[torch.searchsorted(classes, self.left["classes"])] = self.left["seen"]
        stands_for = torch.ones(len(y), dtype=torch.float64)
        stands_for[: held.count] = (seen / kept)[which[: held.count]]
        quota = shared_out(kept + came, self.part.size, self.dice)
        chosen = []
        for c, count in enumerate(quota.tolist()):
            at = ((which == c) & free).nonzero()[:, 0]
            if came[c] and count:
                at = at[self._ranked(_joined(held, new, at), stands_for[at], count)]
            chosen.append(at[:count])
        best, there = torch.cat(chosen), quota > 0
        columns = {name: torch.as_tensor(column).cpu() for name, column in _joined(held, new, best).items()}
        left = {"columns": columns, "classes": classes[there], "seen": (seen + came)[there]}
        return left, best[best >= held.count] - held.count

    def _ranked(self, rows: Rows, weight: Tensor, count: int) -> Tensor:
        """The places of the best `count` rows, best first; `weight`: how many rows each stands for, [rows]."""
        if self.part.choose == "herding":
            phi, _ = features_of(self.ctx.models["student"], rows, "exemplars")
            return herded(F.normalize(phi.double()), weight, count)
        chance = torch.rand(rows.count, generator=self.dice, dtype=torch.float64).log() / weight
        return chance.argsort(descending=True, stable=True)[:count]


def herded(phi: Tensor, weight: Tensor, count: int) -> Tensor:
    """The places of `count` rows, in an order in which the mean of the first few is near the weighted mean of all.

    Args:
        phi: features of length 1, [rows, width].
        weight: how many rows each stands for, [rows].
    """
    mu = (weight[:, None] * phi).sum(0) / weight.sum()
    score, free = torch.zeros_like(mu), torch.zeros(len(phi), dtype=phi.dtype)
    chosen = []
    for _ in range(count):
        score = score + mu
        best = int((phi @ score + free).argmax())
        free[best] = -torch.inf
        score = score - phi[best]
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.long)


def shared_out(counts: Tensor, size: int, dice: torch.Generator) -> Tensor:
    """How many rows of each class are kept, int64 [classes]: as equally many as there are rows, `size` in all."""
    if int(counts.sum()) <= size:
        return counts
    few = counts.sort().values
    before = torch.cat([few.new_zeros(1), few.cumsum(0)[:-1]])
    levels = (size - before) // torch.arange(len(few), 0, -1)  # if the classes with fewer rows are kept whole
    level = levels[int((few > levels).int().argmax())]
    quota = counts.clamp(max=level)
    more = (counts > level).nonzero()[:, 0]
    quota[more[torch.randperm(len(more), generator=dice)[: size - int(quota.sum())]]] += 1
    return quota


def _joined(held: Rows, new: Rows, at: Tensor) -> Rows:
    """The rows at places of both tables, one after the other, in the order of `at`; without their numbers."""
    old = at < held.count
    rows = new.take(at[~old] - held.count)
    rows = rows.only(*(name for name in rows if name != "row"))
    if foreign := [name for name, column in rows.items() if not isinstance(column, Tensor)]:
        raise RegraftError(f"exemplars: column {foreign[0]!r} is not a tensor, so it cannot be kept")
    order = torch.cat([old.nonzero()[:, 0], (~old).nonzero()[:, 0]])
    return Rows.join([held.take(at[old]), rows]).take(order.argsort())
