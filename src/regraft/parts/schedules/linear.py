"""Linear decay to zero: the best schedule for the last iterate when nothing is known of the problem.

    f(t) = t / T_w                          t < T_w = warmup · T
    f(t) = 1 - (t - T_w) / (T - T_w)        else;   1 - t / T without warmup

Paper:   "When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement" Defazio et al. 2023. https://arxiv.org/abs/2310.07831
Claim:   ends at a loss no higher than cosine decay's, each at its own best learning rate.
Differs: step t uses the rate of t + 1 while it rises, so that the first step is not lost at rate 0.
Tags:    learning rate, task-free
"""

from __future__ import annotations

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def linear(t: Progress, *, warmup: float = 0.0) -> float:
    T_w = warmup * t.total
    if t.step < T_w:
        return min(1.0, (t.step + 1) / T_w)
    return 1 - (t.step - T_w) / max(t.total - T_w, 1)
