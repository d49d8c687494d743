"""Replay: rows of the past, every one once before any comes again, over all that the model was trained on.

    batch = (1 - alpha) · new + alpha · past            alpha: the feed's share; the batch's size does not change
    p(i) = |D_i| / sum_j |D_j|, or weights              the past's sources, when it has several

There is no reservoir and no second copy: the past is read where it lies on disk, by its rows' numbers, so that all
of it can come again. Without `weights` one permutation runs over the whole past.

Paper:   "Simple and Scalable Strategies to Continually Pre-train Large Language Models" Ibrahim et al. 2024. https://arxiv.org/abs/2403.08763
Paper:   "Revisiting Replay and Gradient Alignment for Continual Pre-Training of Large Language Models"
         Abbes et al. 2025. https://arxiv.org/abs/2508.01908
Claim:   a share of 25% at equal tokens forgets at most 40% of what no replay forgets.
Needs:   the rows named by `source`, those the model was trained on; if there are none it draws nothing. For `weights` a
         column `source`.
Differs: the code of Abbes et al. fills a buffer on disk and draws from a random file of it each time, so that rows come
         again before others came once; here they do not.
Tags:    continual pre-training, any data
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.mixture import Mixture, places_by


@dataclass(frozen=True)
class replay:
    """`weights`: the part of the draws that each source gets, by its name in column `source`; each must be named."""

    source: str = "past"
    weights: Mapping[str | int, float] | tuple[tuple[str | int, float], ...] = ()

    def __post_init__(self) -> None:
        given = self.weights.items() if isinstance(self.weights, Mapping) else self.weights
        pairs = tuple((name, float(weight)) for name, weight in given)
        if len(dict(pairs)) < len(pairs) or (pairs and not sum(weight for _, weight in pairs) > 0):
            raise RegraftError(f"replay: weights {pairs} must name each source once and not all be 0")
        if bad := [name for name, weight in pairs if not 0 <= weight < float("inf")]:
            raise RegraftError(f"replay: the weight of {bad[0]!r} is {dict(pairs)[bad[0]]}; it must be 0 or more")
        object.__setattr__(self, "weights", pairs)

    def begin(self, ctx: Context) -> _Replay:
        rows = ctx.rows(self.source)
        if not self.weights or not rows:
            return _Replay(rows, Mixture([torch.arange(rows.count)], ctx.rng), torch.ones(1))
        places, weights = places_by(rows, "source"), dict(self.weights)
        if places.keys() != weights.keys():
            raise RegraftError(
                f"replay: weights are of {list(weights)}; the rows {self.source!r} have the sources {list(places)}",
                do="Give each a weight; 0 leaves it out",
            )
        p = torch.tensor([weights[name] for name in places], dtype=torch.float64)
        return _Replay(rows, Mixture(list(places.values()), ctx.rng), p / p.sum())


class _Replay(Stateful):
    state = ("mixture",)

    def __init__(self, rows: Rows, mixture: Mixture, p: Tensor) -> None:
        self.rows, self.mixture, self.p = rows, mixture, p

    def draw(self, count: int) -> Rows:
        return self.rows.take(self.mixture.next(count, self.p))
