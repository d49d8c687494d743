"""DUMP: each source is drawn from in proportion to how much the model can still learn from it.

    L_j = mean |A| of the last w answers to prompts of source j        0: always solved, or never
    u_j = L_j + c sqrt(2 ln(n + 1) / (n_j + 1))                        n_j: answers so far, n: of all sources
    p   = softmax(u / tau)

It hears the advantages of a step's rows, which `rollouts` gives; until it has, sources are drawn alike.

Paper:   "DUMP: Automated Distribution-Level Curriculum Learning for RL-based LLM Post-training" Wang et al. 2025.
         https://arxiv.org/abs/2504.09710
Claim:   what can still be learned is learned better than by drawing all skills alike, and what was known is kept.
Needs:   the rows named by `source`, with a column `by`, a name or number for each; advantages.
Tags:    sampling, curriculum, reinforcement learning
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Stateful
from regraft.core.rows import Rows
from regraft.numerics.mixture import Mixture, places_by


@dataclass(frozen=True)
class dump:
    source: str = "new"
    by: str = "source"
    window: int = 300
    c: float = 1.0
    tau: float = 0.1

    def __post_init__(self) -> None:
        if self.window < 1 or self.c < 0 or not self.tau > 0:
            raise RegraftError(f"{self}: window must be 1 or more, c 0 or more, tau over 0")

    def begin(self, ctx: Context) -> _Dump:
        return _Dump(self, ctx)


class _Dump(Stateful):
    state = ("mixture", "dice", "recent", "n")

    def __init__(self, part: dump, ctx: Context) -> None:
        self.part, self.rows, self.dice = part, ctx.rows(part.source), ctx.rng
        places = places_by(self.rows, part.by)
        self.number = {name: j for j, name in enumerate(places)}
        self.mixture = Mixture(list(places.values()), self.dice)
        self.n = torch.zeros(len(places), dtype=torch.long)
        self.recent = torch.zeros(len(places), part.window)

    def draw(self, count: int) -> Rows:
        return self.rows.take(self.mixture.next(count, self.p()))

    def p(self) -> Tensor:
        """How likely each source is drawn from, float64 [sources]."""
        part, n = self.part, self.n.double()
        L = self.recent.double().sum(1) / n.clamp(min=1, max=part.window)
        u = L + part.c * (2 * math.log(float(n.sum()) + 1) / (n + 1)).sqrt()
        return (u / part.tau).softmax(0)

    def observe(self, outcome: Outcome) -> None:
        rows = outcome.rows
        if "advantage" not in rows or self.part.by not in rows:
            return
        A = rows["advantage"].detach().cpu().abs()
        A = A if A.dim() == 1 else A.flatten(1).mean(1)
        for name, places in places_by(rows, self.part.by).items():
            if (j := self.number.get(name)) is not None:
                at = (int(self.n[j]) + torch.arange(len(places))) % self.part.window
                self.recent[j, at] = A[places].float()
                self.n[j] += len(places)
