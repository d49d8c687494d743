"""Adaptive difficulty: questions from easy to hard, as hard as the model finds them now.

    delta_0(x) = 1 - how many of n answers of the model to x are right / n;    sort, cut into B_1 .. B_K
    before B_{k+1} is entered:  delta_k(x) for x of B_{k+1} alone, by the model as it then is;  sort within B_{k+1}

Every question is asked once before any is asked again. After B_K comes B_1, as any batch that is entered. Questions
that are equally hard keep their order. K = 1 is a fixed curriculum, sorted once at the start. n is the number of copies
of `asking`.

How much a batch is re-sorted says the normalised inversion rate, the part of its pairs that change their order
(`numerics.ranking.inversion_rate`).

Paper:   "Learning Like Humans: Advancing LLM Reasoning Capabilities via Adaptive Difficulty Curriculum Learning and
         Expert-Guided Self-Reformulation" Zhang et al. 2025. https://arxiv.org/abs/2505.08364
Claim:   in as many updates better than in random order and than in the fixed order of the start, from which the order
         of difficulty departs more and more.
Needs:   the rows named by `source`, questions as `rollouts` takes them; a judge.
Leaves:  `adaptive_difficulty`: delta_0 and the newest delta of each question [rows], and the inversion rate of each
         batch that was entered after the first.
Differs: what comes after the last batch is ours. The paper gives neither K nor n.
Tags:    sampling, curriculum, reinforcement learning
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful, Transform
from regraft.core.rows import Rows
from regraft.numerics.ranking import inversion_rate
from regraft.numerics.trying import Asking, tried


@dataclass(frozen=True)
class adaptive_difficulty:
    judge: Transform
    asking: Asking
    source: str = "new"
    K: int = 4

    def __post_init__(self) -> None:
        if self.K < 1:
            raise RegraftError(f"adaptive_difficulty: K is {self.K}; it must be 1 or more")

    def begin(self, ctx: Context) -> _AdaptiveDifficulty:
        return _AdaptiveDifficulty(self, ctx)


class _AdaptiveDifficulty(Stateful):
    state = ("initial", "delta", "sorted", "batch", "waiting", "inversions", "dice")

    def __init__(self, part: adaptive_difficulty, ctx: Context) -> None:
        self.part, self.ctx, self.dice = part, ctx, ctx.rng
        self.rows = ctx.rows(part.source)
        nothing = torch.empty(0, dtype=torch.float64)
        self.initial, self.delta = nothing, nothing
        self.sorted = torch.empty(0, dtype=torch.long)
        """Places by difficulty at the start."""
        self.batch = 0
        """The number of the batch that is entered next."""
        self.waiting = torch.empty(0, dtype=torch.long)
        self.inversions: list[float] = []

    def draw(self, count: int) -> Rows:
        drawn = self.waiting[:0]
        while len(drawn) < count and self.rows.count:
            if not len(self.waiting):
                self.waiting = self._entered()
            missing = count - len(drawn)
            drawn = torch.cat([drawn, self.waiting[:missing]])
            self.waiting = self.waiting[missing:]
        return self.rows.take(drawn)

    def _entered(self) -> Tensor:
        """The places of the next batch, from easy to hard."""
        if not len(self.initial):
            self.initial = self._difficulty(torch.arange(self.rows.count))
            self.delta, self.sorted = self.initial.clone(), self.initial.argsort(stable=True)
            places = self._batch()
        else:
            places = self._batch()
            if self.part.K > 1:
                before, now = self.delta[places], self._difficulty(places)
                self.inversions.append(inversion_rate(before, now))
                self.delta[places] = now
                places = places[now.argsort(stable=True)]
        self.batch += 1
        return places

    def _batch(self) -> Tensor:
        batches = [b for b in self.sorted.tensor_split(self.part.K) if len(b)]
        return batches[self.batch % len(batches)]

    def _difficulty(self, places: Tensor) -> Tensor:
        asking = self.part.asking
        items = self.rows.take(places)
        answers = tried(self.ctx.models["student"], items, self.part.judge, asking, self.ctx, dice=self.dice)
        return 1 - answers.right.double() / asking.copies

    def leave(self) -> Mapping[str, Any]:
        found = {"initial": self.initial, "difficulty": self.delta, "inversions": self.inversions}
        return {"adaptive_difficulty": found}
