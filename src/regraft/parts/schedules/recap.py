"""RECAP: the weights of several objectives, moved from those that have come to rest to those that are slow or unstable.

    c_k = (mu'_k + eps) / (mu_k + eps)        mu: the mean of the last W values of an objective, mu': of the W before
    i_k = sigma_k / (mu_k + mu'_k + eps)      sigma²: the mean square of how far the last 2 W values are from mu
    lam_k = K exp((c_k + i_k) / T) / sum_j exp((c_j + i_j) / T)           1 until every objective has 2 W values

The weights of all objectives add up to K at every step; with T infinite each is 1. This part is the weight of one, the
`objective`: of a loss in the plan, or of a reward in `rewards`; parts that differ in it alone share what they heard.

An objective is the mean, over a step's rows of a feed, of a loss, by its name in records, or of 1 - reward: of the
column `reward`, or `reward/<name>` as `rewards` gives it. It has a value in every step in which its feed is read.

Paper:   "Beyond Reasoning Gains: Mitigating General Capabilities Forgetting in Large Reasoning Models"
         Phan et al. 2025. https://arxiv.org/abs/2510.21978
Claim:   beside replay that weighs all alike, old skills no more than half a point worse, the new one 2 points better.
Needs:   losses of 0 or more; rewards of 1 at most.
Differs: eps, so that an objective at 0 is one at rest. It is not in the paper that we know of.
Tags:    reinforcement learning, replay
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Progress, ScheduleRun, Stateful, Wanted


class Objective(NamedTuple):
    """`value`: the name of a loss, or a column of rewards."""

    name: str
    feed: str
    value: str

    @property
    def rewarded(self) -> bool:
        return self.value == "reward" or self.value.startswith("reward/")


@dataclass(frozen=True)
class recap:
    objective: str
    objectives: tuple[Objective, ...]
    W: int = 10
    T: float = 5.0
    eps: float = 0.01

    def __post_init__(self) -> None:
        names = [each.name for each in self.objectives]
        if self.objective not in names or len(set(names)) < len(names):
            raise RegraftError(f"recap: {self.objective!r} must be one of the objectives {names}, and none there twice")
        if self.W < 1 or not (self.T > 0 and self.eps > 0):
            said = f"W is {self.W}, T {self.T}, eps {self.eps}"
            raise RegraftError(f"recap: {said}; W must be 1 or more, T and eps over 0")

    def begin(self, ctx: Context) -> ScheduleRun:
        shared: _Shared = ctx.begin(_Weights(self.objectives, self.W, self.T, self.eps))
        number = [each.name for each in self.objectives].index(self.objective)

        def weight(t: Progress) -> float:
            return float(shared.weights[number])

        return weight


@dataclass(frozen=True)
class _Weights:
    objectives: tuple[Objective, ...]
    W: int
    T: float
    eps: float

    def begin(self, ctx: Context) -> _Shared:
        return _Shared(self)


class _Shared(Stateful):
    """What was heard of the objectives, and their weights."""

    state = ("heard", "weights")

    def __init__(self, part: _Weights) -> None:
        self.part = part
        self.wants: tuple[Wanted, ...] = () if all(each.rewarded for each in part.objectives) else ("losses",)
        self.heard: list[list[float]] = [[] for _ in part.objectives]
        self.weights = torch.ones(len(part.objectives), dtype=torch.float64)

    def observe(self, outcome: Outcome) -> None:
        part, new = self.part, False
        for each, heard in zip(part.objectives, self.heard, strict=True):
            if each.feed == outcome.feed and (value := _value(each, outcome)) is not None:
                heard.append(value)
                del heard[: -2 * part.W]
                new = True
        if new and all(len(heard) == 2 * part.W for heard in self.heard):
            self.weights = weights(torch.tensor(self.heard, dtype=torch.float64), part.T, part.eps)


def weights(values: Tensor, T: float, eps: float) -> Tensor:
    """The weights lam [objectives] of objectives that had these values, [objectives, 2 W], the oldest first."""
    before, last = (half.mean(1) for half in values.chunk(2, 1))
    sigma = (values - last[:, None]).square().mean(1).sqrt()
    s = (before + eps) / (last + eps) + sigma / (before + last + eps)
    each = ((s - s.max()) / T).exp()
    return each / each.mean()


def _value(objective: Objective, outcome: Outcome) -> float | None:
    """The objective's mean over the step's rows; None: they say nothing of it."""
    if objective.rewarded:
        rewards: Tensor = outcome.rows[objective.value].double()
        found = 1 - float(rewards.nanmean())
    elif objective.value in outcome.losses:
        found = float(outcome.losses[objective.value].double().mean())
    else:
        raise RegraftError(f"recap: no loss {objective.value!r} reads the feed {objective.feed!r}")
    if math.isnan(found):
        return None
    if found < -1e-6:
        raise RegraftError(
            f"recap: the objective {objective.name!r} is {found:g}",
            do="Give a loss of 0 or more, or a reward of 1 at most",
        )
    return max(found, 0.0)
