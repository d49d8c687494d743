"""How much of what there is to know was known before: the weight of distillation, and of labels, as classes arrive.

    lambda = C_old / (C_old + C_new)        or 1 - lambda, `of="new"`

C_old: classes of earlier updates that the new rows lack, C_new: those that they have. It does not change in time.

Paper:   "Large Scale Incremental Learning" Wu et al. 2019. https://arxiv.org/abs/1905.13260
Paper:   "Maintaining Discrimination and Fairness in Class Incremental Learning" Zhao et al. 2020. https://arxiv.org/abs/1911.07053
Needs:   rows named `source`, with classes in column `y`; classes of earlier updates in memory: without any lambda is 0.
Tags:    class-incremental
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, ScheduleRun
from regraft.numerics.classes import old_and_new


@dataclass(frozen=True)
class known_share:
    of: Literal["old", "new"] = "old"
    source: str = "new"

    def __post_init__(self) -> None:
        if self.of not in ("old", "new"):
            raise RegraftError(f"known_share: of is {self.of!r}; it must be 'old' or 'new'")

    def begin(self, ctx: Context) -> ScheduleRun:
        old, new = map(len, old_and_new(ctx, self.source))
        lambda_ = old / (old + new) if old else 0.0
        share = lambda_ if self.of == "old" else 1 - lambda_

        def constant(progress: Progress) -> float:
            return share

        return constant
