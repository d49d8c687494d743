"""ReLIFT: demonstrations of the questions that no answer of a group solved, a step of their own once they are many.

    B <- B + { demonstration of x : every answer of x's group has a reward of at most `wrong` }
    if |B| >= N:  one step on the N oldest of B, which leave it;   else: a step of the other feeds

As a feed of its own steps (`solo`), with a loss that imitates, beside a feed of `rollouts`, whose rewards it hears. So
demonstrations are used for what reinforcement cannot reach, and for nothing else. Nothing waits twice. N: the rows of a
step, where nothing else is said; the authors' is the number of questions that a step of reinforcement asks.

Paper:   "Learning What Reinforcement Learning Can't: Interleaved Online Fine-Tuning for Hardest Questions"
         Ma et al. 2025. https://arxiv.org/abs/2506.07527
Needs:   the rows named by `source`, with a column `item`: the `row` of the question that each answers.
Differs: the authors' imitation has an optimizer of its own, and an entropy bonus of 0.001.
Tags:    sampling, curriculum, reinforcement learning
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Stateful
from regraft.core.rows import Rows
from regraft.numerics.mixture import places_by


@dataclass(frozen=True)
class unsolved:
    source: str = "new"
    wrong: float = 0.0
    N: int | None = None

    def __post_init__(self) -> None:
        if self.N is not None and self.N < 1:
            raise RegraftError(f"unsolved: N is {self.N}; it must be 1 or more")

    def begin(self, ctx: Context) -> _Unsolved:
        return _Unsolved(self, ctx.rows(self.source))


class _Unsolved(Stateful):
    state = ("waiting", "turn")

    def __init__(self, part: unsolved, rows: Rows) -> None:
        self.part, self.rows = part, rows
        self.answers = places_by(rows, "item")
        self.waiting = torch.empty(0, dtype=torch.long)
        self.turn = torch.zeros(rows.count, dtype=torch.long)
        """How often each demonstration has waited: of several, those that waited least come first."""

    def draw(self, count: int) -> Rows:
        N = min(count, self.part.N or count)
        if not N or len(self.waiting) < N:
            return self.rows.take(slice(0, 0))
        drawn, self.waiting = self.waiting[:N], self.waiting[N:]
        return self.rows.take(drawn)

    def observe(self, outcome: Outcome) -> None:
        rows = outcome.rows
        if "reward" not in rows or "group" not in rows:
            return
        items, reward = rows["row"].cpu(), rows["reward"].cpu()
        group = rows["group"].cpu().unique(return_inverse=True)[1]
        best = reward.new_full((int(group.max()) + 1,), -torch.inf).scatter_reduce_(0, group, reward, "amax")
        for item in items[best[group] <= self.part.wrong].unique().tolist():
            places = self.answers.get(item)
            if places is None or bool(torch.isin(places, self.waiting).any()):
                continue
            chosen = places[self.turn[places].argmin()]
            self.turn[chosen] += 1
            self.waiting = torch.cat([self.waiting, chosen[None]])
