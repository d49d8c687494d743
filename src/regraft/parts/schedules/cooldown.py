"""A temperature that starts high and comes down: upsample what is rare at first, then read the data as it is.

    piecewise   f(t) = early                                    t < T_s = switch · T
    gradual     f(t) = early + (late - early) · t / T_s         t < T_s
    then        f(t) = late

It is the knob `tau` of part `temperature` in time: rare sources are learned fast while it is high, and not overfitted
once it is 1.

Paper:   "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets" Li et al. 2024. https://arxiv.org/abs/2410.04579
Claim:   the rare source ends at a loss no higher than with tau fixed at 5 or 1, the common one within 2% of tau = 1.
Differs: the switch is a share of the update; the paper finds it by validation.
Tags:    sampling, imbalance, task-free
"""

from __future__ import annotations

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def cooldown(
    t: Progress, *, early: float = 5.0, late: float = 1.0, switch: float = 0.25, gradual: bool = False
) -> float:
    T_s = switch * t.total
    if t.step >= T_s:
        return late
    return early + (late - early) * t.step / T_s if gradual else early
