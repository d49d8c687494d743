"""Answers of earlier policies among new ones (Mix-PPG): a step writes a part of its rows, and learns from each again.

    a batch:  a part 1 - p of its groups that pi_k writes now,  a part p that pi_k-1 .. pi_k-N wrote
    a row of pi_k-i:   old_log_probs = log pi_k-i,    centre = log pi_k / pi_k-i        (i = 0: centre 0)

pi_k: the policy as it stands when the batch is made; m steps learn from it. With the column `centre`, policy_gradient
clips the ratio pi / pi_k-i around pi_k / pi_k-i, so that every row may move as far from pi_k as a new one. Advantages
are those of the group when it was written. Parts are exact over time; the first batch is new; where earlier policies
wrote less than is asked for, it comes again. With p = 0 and m = 1 the rows are those of `written`, as they are.

Paper:   "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
         Liang et al. 2025. https://arxiv.org/abs/2507.06892
Needs:   a sampler of whole groups that the model writes, such as `rollouts`; `temperature`: that of the loss.
Differs: the part p is of each batch, not a coin for each row.
Tags:    reinforcement learning, replay, language model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Sampler, SamplerRun, Stateful
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.answers import join_blocks
from regraft.numerics.knobs import begun, worth
from regraft.numerics.token_loss import log_probs_of


@dataclass(frozen=True)
class mixed_policies:
    written: Sampler
    p: Knob = 0.4
    N: int = 2
    m: int = 2
    temperature: float = 1.0
    at_once: int = 64

    def __post_init__(self) -> None:
        if isinstance(self.p, float | int) and not 0 <= self.p < 1:
            raise RegraftError(f"mixed_policies: p is {self.p}; it must be from 0 to under 1")
        for name in ("N", "m", "at_once"):
            if getattr(self, name) < 1:
                raise RegraftError(f"mixed_policies: {name} is {getattr(self, name)}; it must be 1 or more")
        if not self.temperature > 0:
            raise RegraftError(f"mixed_policies: the temperature is {self.temperature}; it must be over 0")

    def begin(self, ctx: Context) -> _MixedPolicies:
        return _MixedPolicies(self, ctx.begin(self.written), ctx)


class _MixedPolicies(Stateful):
    state = ("past", "batch", "left", "owed", "dice")

    def __init__(self, part: mixed_policies, written: SamplerRun, ctx: Context) -> None:
        self.part, self.written, self.dice = part, written, ctx.rng
        self.model, self.progress = ctx.models["student"], ctx.progress
        self.p = begun(part.p, ctx.begin)
        self.past: list[dict[str, Any]] = []
        """What the last N policies wrote, the oldest first."""
        self.batch: dict[str, Any] = {}
        self.left = 0
        self.owed = 0.0

    def draw(self, count: int) -> Rows:
        if self.part.m == 1 and self.p == 0:
            return self.written.draw(count)
        if not self.left:
            self.batch, self.left = dict(self._mixed(count)), self.part.m
        self.left -= 1
        return Rows(self.batch).take(slice(0, count))

    def _mixed(self, count: int) -> Rows:
        old, each = self._earlier(count)
        rest = count - each * old
        new = Rows({}) if old and rest < each else self.written.draw(rest)
        if new.count:
            if "old_log_probs" not in new:
                new = new.having(old_log_probs=self._log_probs(new))
            if self.p != 0:
                new = new.having(centre=torch.zeros_like(new["old_log_probs"]))
        first = int(new["group"].max()) + 1 if new.count else 0
        rows = join_blocks([new, self._chosen(old, each, first)]) if old else new
        if self.p != 0 and new.count:
            self.past = [*self.past, dict(new)][-self.part.N :]
        return rows

    def _earlier(self, count: int) -> tuple[int, int]:
        """How many groups of earlier policies a batch of so many rows has, and how many rows each."""
        if not self.past:
            return 0, 0
        numbers = self.past[-1]["group"]
        each = len(numbers) // len(numbers.unique())
        self.owed += worth(self.p, self.progress()) * (count // each)
        old = min(int(self.owed + 1e-9), count // each)
        self.owed -= old
        return old, each

    def _chosen(self, groups: int, each: int, first: int) -> Rows:
        """So many groups of earlier policies, numbered from `first`, with their `centre`."""
        pool = join_blocks([Rows(table).take(table["group"].argsort(stable=True)) for table in self.past])
        there = pool.count // each
        turns = [torch.randperm(there, generator=self.dice) for _ in range(-(-groups // there))]
        places = torch.cat(turns)[:groups, None] * each + torch.arange(each)
        rows = pool.take(places.flatten()).having(group=first + torch.arange(groups).repeat_interleave(each))
        return rows.having(centre=self._log_probs(rows) - rows["old_log_probs"])

    def _log_probs(self, rows: Rows) -> Tensor:
        return log_probs_of(self.model, rows, temperature=self.part.temperature, chunk=self.part.at_once)
