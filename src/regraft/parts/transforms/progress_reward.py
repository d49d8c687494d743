"""A bonus for progress: how much likelier a right answer has become after a block of thinking, were it asked for now.

    R = o + alpha sum_j r_prog(z_j)                 over the first `blocks` blocks that were written
    r_prog(z_j) = J(z_0:j) - J(z_0:j-1)
    J(z_0:j) = the mean reward of M answers z_0:j, force, then ~ pi(. | x, z_0:j, force), of `after` tokens at most

o: the reward that was there before. A block ends with a token that holds one of `ends`, before `force`, the text that
ends thinking, first comes. After what judges in the transforms of `rollouts`, before advantages; with `own_prefixes` as
their `start`, whose answers all begin alike, so that a group tells which next block makes progress. `blocks` that are
many: progress adds up to that of the whole.

The columns `reward/outcome` and `reward/progress` are o and the sum of r_prog. alpha=0: no answer is asked for.

Paper:   "Optimizing Test-Time Compute via Meta Reinforcement Fine-Tuning" Qu et al. 2025.
         https://arxiv.org/abs/2503.07572
Needs:   columns `reward`, `prompt_ids`, `targets` and `counts`, and what the judge reads; a causal language model with
         a tokenizer as the student.
Differs: the authors' notes on reinforcement have the reward after forced termination as the baseline, in place of the
         group's mean. Here progress is a part of the reward, as the paper's formula has it, and the group is the
         baseline.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful, Transform
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards
from regraft.numerics.sampling import Sampling
from regraft.numerics.step_values import gone_on
from regraft.numerics.thoughts import answer_begins, forcing, thought_ends
from regraft.numerics.trying import Asking


@dataclass(frozen=True)
class progress_reward:
    judge: Transform
    ends: tuple[str, ...] = ("\n",)
    force: str = "</think>"
    alpha: float = 1.0
    M: int = 4
    blocks: int = 1
    after: int = 32
    temperature: float = 1.0
    at_once: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise RegraftError(f"progress_reward: alpha is {self.alpha}; it must be 0 or more")
        for name in ("M", "blocks", "after", "at_once"):
            if getattr(self, name) < 1:
                raise RegraftError(f"progress_reward: {name} is {getattr(self, name)}; it must be 1 or more")
        Sampling(self.temperature)

    def begin(self, ctx: Context) -> _ProgressReward:
        return _ProgressReward(self, ctx.at_work(self.judge), ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _ProgressReward(Stateful):
    state = ("dice",)

    def __init__(self, part: progress_reward, judge: Transform, ctx: Context) -> None:
        self.part, self.judge, self.dice = part, judge, ctx.rng
        self.model: Any = ctx.models["student"]
        self.force = forcing(self.model, part.force)
        self.asking = Asking(part.M, part.after, Sampling(part.temperature), at_once=part.at_once)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        o = finite_rewards(rows["reward"])
        progress = self._progress(rows, ctx) if self.part.alpha else torch.zeros_like(o)
        R = (o + self.part.alpha * progress).to(rows["reward"].dtype)
        return rows.having(**{"reward/outcome": rows["reward"], "reward/progress": progress.float()}, reward=R)

    def _progress(self, rows: Rows, ctx: Context) -> Tensor:
        """The sum of r_prog, float64 [rows]; 0 for an answer in which no block was written."""
        own = rows["counts"] > 0
        over = thought_ends(self.model, rows, self.part.ends, self.force) & own
        over &= over.cumsum(1) <= self.part.blocks
        found = torch.zeros(rows.count, dtype=torch.float64)
        if not len(at := over.any(1).nonzero()[:, 0]):
            return found
        place, thought = torch.arange(own.shape[1]), rows.take(at)
        starts, before = answer_begins(thought), own[at].int().argmax(1)
        after = (over[at] * (place + 1)).amax(1)
        begun = [
            thought["targets"][row, start:end].tolist()
            for ends in (before, after)
            for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
        ]
        J = self._forced(Rows.join([thought, thought]), begun, ctx).view(2, -1)
        found[at] = J[1] - J[0]
        return found

    def _forced(self, rows: Rows, begun: Sequence[Sequence[int]], ctx: Context) -> Tensor:
        """J of each row after what it has begun with, float64 [rows]; where rows begin alike, asked for once."""
        whole = [(tuple(prompt), tuple(ids)) for prompt, ids in zip(rows["prompt_ids"], begun, strict=True)]
        first: dict[Any, int] = {}
        for row, each in enumerate(whole):
            first.setdefault(each, row)
        number = {each: n for n, each in enumerate(first)}
        prefix = [[*ids, *self.force] for _, ids in first]
        items = rows.take(torch.tensor(list(first.values()))).having(prefix_ids=prefix).repeat(self.part.M)
        judged, _ = gone_on(self.model, items, self.judge, self.asking, ctx, self.dice)
        return finite_rewards(judged["reward"]).view(-1, self.part.M).mean(1)[[number[each] for each in whole]]
