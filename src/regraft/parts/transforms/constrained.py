"""Constrained RLHF: each reward is held at the point up to which it can be trusted, by a multiplier that learns.

    A_r  =  (N - sum_i s(mu_i)) A_0r + sum_i s(mu_i) A_ir        s: tanh (xi-PPO), or sigma where not `equal` (mu-PPO)
    mu_i <- mu_i + rate s'(mu_i) (theta_i - mean_r R_ir)         after each batch of answers

A_i is the advantage of the reward i among the answers to one prompt, A_0 that of the reward `task`; without one A_0 is
0, and the loss holds the policy (kl of policy_gradient). A reward short of its point theta_i is asked for more and
more, one past it less and less; with tanh its weight may turn negative, so that it comes back.

Paper:   "Confronting Reward Model Overoptimization with Constrained RLHF" Moskovitz et al. 2023.
         https://arxiv.org/abs/2310.04373
Claim:   where rewards are trusted up to known points, it ends near the best that fixed weights reach on their way, and
         each reward ends near its point, while fixed weights go past them and lose.
Needs:   columns `group` and, for every reward that is named, `reward/<name>`, as part `rewards` gives them.
Leaves:  mu of each reward; a later update begins with it.
Differs: advantages by the group, in place of those by value heads; no momentum of mu; mu begins at `mu`, not at random.
         The step of mu has s', as in the authors' code, tedmoskovitz/ConstrainedRL4LMs.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.advantages import advantages


@dataclass(frozen=True)
class constrained:
    points: tuple[tuple[str, float], ...]
    task: str | None = None
    equal: bool = True
    rate: float = 0.1
    mu: float = 0.0
    scaled: bool = True

    def __post_init__(self) -> None:
        names = [name for name, _ in self.points]
        if not names or len({*names, self.task}) < len(names) + 1:
            raise RegraftError(f"constrained: the rewards are {names} and the task {self.task!r}; each is named once")
        if self.rate < 0:
            raise RegraftError(f"constrained: rate is {self.rate}; it must be 0 or more")

    def begin(self, ctx: Context) -> _Constrained:
        return _Constrained(self, ctx.memory.get("constrained", {}))

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _Constrained(Stateful):
    state = ("mu",)

    def __init__(self, part: constrained, left: Mapping[str, float]) -> None:
        self.part = part
        self.theta = torch.tensor([theta for _, theta in part.points], dtype=torch.float64)
        self.mu = torch.tensor([left.get(name, part.mu) for name, _ in part.points], dtype=torch.float64)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        part, N = self.part, len(self.part.points)
        s = self.mu.tanh() if part.equal else self.mu.sigmoid()
        slope = 1 - s.square() if part.equal else s * (1 - s)
        R = torch.stack([self._rewards(rows, name) for name, _ in part.points])
        A = sum(s_i * self._advantages(rows, R_i) for s_i, R_i in zip(s, R, strict=True))
        if part.task is not None:
            A = A + (N - s.sum()) * self._advantages(rows, self._rewards(rows, part.task))
        self.mu = self.mu + part.rate * slope * (self.theta - R.nanmean(1)).nan_to_num(0.0)
        return rows.having(advantage=A.float())

    def _rewards(self, rows: Rows, name: str) -> Tensor:
        """R_i, float64 [rows], NaN in rows that have no such reward."""
        found: Tensor = rows[f"reward/{name}"].double()
        return found

    def _advantages(self, rows: Rows, R: Tensor) -> Tensor:
        return advantages(R.nan_to_num(0.0), rows["group"], scaled=self.part.scaled)

    def leave(self) -> Mapping[str, Any]:
        return {"constrained": {name: float(mu) for (name, _), mu in zip(self.part.points, self.mu, strict=True)}}
