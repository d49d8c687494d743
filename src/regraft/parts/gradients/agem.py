"""A-GEM: a step may not raise the loss on the memory of earlier tasks, to first order.

    g <- g - (g·r / r·r) r    where g·r < 0        r: the gradient on `rows` rows drawn from the memory

`size` rows are kept in all, as many of each task. In a first task the gradient passes through.

Paper:   "Efficient Lifelong Learning with A-GEM" Chaudhry et al. 2019. https://arxiv.org/abs/1812.00420
Claim:   forgets less than plain training where tasks share their classes, at equal updates.
Needs:   the rows named by `source`, of which some are kept at the end.
Leaves:  `agem`: the rows kept of each task, by its number; that is in column `task`, or else counts the updates.
Differs: the rows kept of a task are random ones; the authors keep the last of every class.
Tags:    replay, gradient projection
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, Stateful
from regraft.core.rows import Rows
from regraft.numerics.choice import some
from regraft.numerics.episodic import Episodic
from regraft.numerics.projection import dot


@dataclass(frozen=True)
class agem:
    loss: Loss
    size: int = 200
    rows: int = 256
    source: str = "new"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise RegraftError(f"agem: the size is {self.size}; it must be 0 or more")
        if self.rows < 1:
            raise RegraftError(f"agem: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _AGEM:
        ctx.begin(self.loss)
        return _AGEM(self, ctx)


class _AGEM(Stateful):
    state = ("dice",)

    def __init__(self, part: agem, ctx: Context) -> None:
        self.part, self.ctx, self.dice = part, ctx, ctx.rng
        self.memory = Episodic(ctx, "agem", part.size, part.source)
        self.past = Rows.join(self.memory.past)

    def update(self, grads: Grads) -> Grads:
        if not self.past.count:
            return grads
        r = self.ctx.gradient(some(self.past, self.part.rows, self.dice), self.part.loss)
        against, size = torch.stack([dot(grads, r), dot(r, r)]).tolist()
        if against >= 0:
            return grads
        return {name: g - against / size * r[name] if name in r else g for name, g in grads.items()}

    def leave(self) -> Mapping[str, Any]:
        return {"agem": self.memory.left()}
