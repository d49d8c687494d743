"""REINFORCE: advantages of answers by a moving average of all rewards so far, or by nothing.

    A_i = R_i - b        b <- m b + (1 - m) mean R        after each batch that was written; at first its own mean

m = 1: no baseline, b = 0. The baseline is of the batches before, so the gradient is unbiased; it is one number for all
prompts. The first batch has its own mean.

Paper: "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" Williams 1992.
       https://doi.org/10.1007/BF00992696
Needs: a column `reward`.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards


@dataclass(frozen=True)
class moving_advantage:
    m: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.m <= 1:
            raise RegraftError(f"moving_advantage: m is {self.m}; it must be from 0 to 1")

    def begin(self, ctx: Context) -> _MovingAdvantage:
        return _MovingAdvantage(self)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _MovingAdvantage(Stateful):
    state = ("b",)

    def __init__(self, part: moving_advantage) -> None:
        self.m = part.m
        self.b: Tensor | None = None

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        R = finite_rewards(rows["reward"])
        if self.m == 1 or not len(R):
            return rows.having(advantage=R.float())
        b = R.mean() if self.b is None else self.b
        self.b = self.m * b + (1 - self.m) * R.mean()
        return rows.having(advantage=(R - b).float())
