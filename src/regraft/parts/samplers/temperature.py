"""Temperature sampling: rare sources are read more often than their size asks for.

    p_tau(i) = |D_i|^(1/tau) / sum_j |D_j|^(1/tau)

tau = 1 reads the sources in proportion to their rows, a large tau reads them all alike. Each draw's source is chosen by
p_tau, its row by shuffled passes over that source. A schedule as `tau`, such as `cooldown`, changes the mixture while
training. Rows weigh one each: the expected gradient is that of part `upweight`, its variance is less, and rare rows are
repeated more often.

Paper:   "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets" Li et al. 2024. https://arxiv.org/abs/2410.04579
Claim:   its mini-batch gradient varies less than that of loss weighting with the same expectation.
Needs:   the rows named by `source`, with a column `source`: a name or number for each row.
Tags:    sampling, imbalance, any data
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, ScheduleRun, Stateful
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.knobs import begun, worth
from regraft.numerics.mixture import Mixture, places_by, sizes_of, tempered


@dataclass(frozen=True)
class temperature:
    tau: Knob = 5.0
    source: str = "new"

    def __post_init__(self) -> None:
        if isinstance(self.tau, float | int) and not self.tau > 0:
            raise RegraftError(f"temperature: tau is {self.tau}; it must be over 0")

    def begin(self, ctx: Context) -> _Temperature:
        return _Temperature(ctx.rows(self.source), begun(self.tau, ctx.begin), ctx.progress, ctx.rng)


class _Temperature(Stateful):
    state = ("mixture",)

    def __init__(
        self, rows: Rows, tau: float | ScheduleRun, progress: Callable[[], Progress], dice: torch.Generator
    ) -> None:
        self.rows, self.tau, self.progress = rows, tau, progress
        places = places_by(rows, "source")
        self.sizes, self.mixture = sizes_of(places), Mixture(list(places.values()), dice)

    def draw(self, count: int) -> Rows:
        tau = worth(self.tau, self.progress())
        return self.rows.take(self.mixture.next(count, tempered(self.sizes, tau)))
