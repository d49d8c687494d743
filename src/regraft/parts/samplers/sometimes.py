"""Rows of another sampler, in some of the steps.

    u ~ U(0, 1);    rows of `of` if u < p_t, else none

As a feed of its own steps (`solo`) beside another feed: each step is of this feed with probability p_t, else of the
other. p: a number, or a schedule, which may hear how it goes (`norm_ratio`).

Tags:    sampling, any data
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Sampler, SamplerRun, Stateful
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.knobs import begun, worth


@dataclass(frozen=True)
class sometimes:
    of: Sampler
    p: Knob = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.p, float | int) and not 0 <= self.p <= 1:
            raise RegraftError(f"sometimes: p is {self.p}; it must be from 0 to 1")

    def begin(self, ctx: Context) -> _Sometimes:
        return _Sometimes(self, ctx)


class _Sometimes(Stateful):
    state = ("dice",)

    def __init__(self, part: sometimes, ctx: Context) -> None:
        self.of: SamplerRun = ctx.begin(part.of)
        self.p, self.progress, self.dice = begun(part.p, ctx.begin), ctx.progress, ctx.rng

    def draw(self, count: int) -> Rows:
        u = float(torch.rand((), generator=self.dice))
        return self.of.draw(count) if u < worth(self.p, self.progress()) else Rows({})
