"""Rewards for how long an answer is: not too long, or as long as a budget.

    by="overlong"   R = 0                                 L <= L_max - cache
                    R = ((L_max - cache) - L) / cache     L <= L_max
                    R = -1                                else                  cache = 0: a limit
    by="budget"     R = L / B                             L <= B
                    R = (2 B - L) / B                     L <= 2 B
                    R = 0                                 else

L: the tokens that were written. L_max or B: `limit`, which may be a schedule. Both are multiplied by `most`.

Paper: "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" Yu et al. 2025.
       https://arxiv.org/abs/2503.14476
Paper: "Reinforcement Mid-Training" Tian et al. 2025. https://arxiv.org/abs/2509.24375
Needs: a column `length`, as rollouts have it.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, ScheduleRun
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.knobs import begun, worth

_TINY = 1e-9
"""In place of a limit of 0, to which a schedule may come."""


@dataclass(frozen=True)
class length_reward:
    limit: Knob
    by: Literal["overlong", "budget"] = "overlong"
    cache: float = 0.0
    most: float = 1.0

    def __post_init__(self) -> None:
        if self.by not in ("overlong", "budget"):
            raise RegraftError(f"length_reward: by is {self.by!r}; it must be 'overlong' or 'budget'")
        if isinstance(self.limit, float | int) and not 0 < self.limit < float("inf"):
            raise RegraftError(f"length_reward: limit is {self.limit}; it must be over 0")
        if self.cache < 0 or (self.cache and self.by == "budget"):
            raise RegraftError(f"length_reward: cache is {self.cache}; it is of by='overlong', and 0 or more")

    def begin(self, ctx: Context) -> _LengthReward:
        return _LengthReward(self, begun(self.limit, ctx.begin), ctx.progress)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _LengthReward:
    def __init__(self, part: length_reward, limit: float | ScheduleRun, progress: Callable[[], Progress]) -> None:
        self.part, self.limit, self.progress = part, limit, progress

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        L: Tensor = rows["length"].double()
        limit, cache = worth(self.limit, self.progress()), self.part.cache
        if self.part.by == "budget":
            R = (1 - (L / max(limit, _TINY) - 1).abs()).clamp(min=0.0)
        elif cache:
            R = ((limit - cache - L) / cache).clamp(-1.0, 0.0)
        else:
            R = -(limit < L).double()
        return rows.having(reward=(self.part.most * R).float())
