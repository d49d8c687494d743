"""A learning rate made for this very job: run once, record the gradient norms, run again on the schedule they call for.

    f(t) ~ w_t · sum_{p=t+1..T+1} w_p         scaled to a maximum of 1
    w_t = G_t^-2    G_t = ||g_t||_2           steps along the gradient (SGD)
    w_t = G_t^-1    G_t = ||g_t||_1           Adam-type steps

G is median-filtered over `width` · T steps. Norms that do not change give linear decay; norms that fall at first give a
warmup, norms that rise towards the end a faster decay. The norms are stretched when the two runs differ in length. Tune
the learning rate anew after refining.

Paper:   "When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement" Defazio et al. 2023. https://arxiv.org/abs/2310.07831
Claim:   ends at a loss no higher than linear decay's, each at its own best learning rate.
Needs:   memory `gradient_norms`, which part `gradient_norms` leaves.
Differs: the sum runs to T + 1 with w_{T+1} = w_T, so that the last step is not lost at rate 0. The power follows from
         the norm that was recorded. The filter is that of the authors' code, facebookresearch/adaptive_scheduling.
Tags:    learning rate, task-free
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress
from regraft.numerics.refinement import refine


@dataclass(frozen=True)
class refined:
    width: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.width <= 1:
            raise RegraftError(f"refined: width is {self.width}; it must lie in [0, 1]")

    def begin(self, ctx: Context) -> _Refined:
        if "gradient_norms" not in ctx.memory:
            raise RegraftError(
                f"refined needs `gradient_norms` of an earlier run; memory has {sorted(ctx.memory)}",
                do="Run once with gradient_norms among the gradients: 'l1' for Adam-type optimizers, 'l2' for SGD",
            )
        record = ctx.memory["gradient_norms"]
        G = np.asarray(record["values"], dtype=np.float64)
        power = {"l1": -1.0, "l2": -2.0}[record["norm"]]
        return _Refined(refine(G, ctx.progress().total, power=power, width=self.width).tolist())


@dataclass(frozen=True)
class _Refined:
    eta: list[float]

    def __call__(self, t: Progress) -> float:
        return self.eta[t.step]
