"""Re-warm and re-decay the learning rate: a short linear rise, then a cosine down to a floor.

    f(t) = t / T_w                                                   t < T_w = warmup · T
    f(t) = floor + (1 - floor) / 2 · (1 + cos(π (t - T_w) / (T - T_w)))      else

A higher peak adapts more and forgets more; the length of the rise hardly matters. On a stream of updates this is the
repeated cosine.

Paper:   "Simple and Scalable Strategies to Continually Pre-train Large Language Models" Ibrahim et al. 2024.
         https://arxiv.org/abs/2403.08763
Paper:   "Continual Pre-Training of Large Language Models: How to (re)warm your model?" Gupta et al. 2023.
         https://arxiv.org/abs/2308.04014
Claim:   learns new text better than going on at the small final rate, at equal tokens; with replay it matches
         retraining on the union.
Differs: step t uses the rate of t + 1 while it rises, so that the first step is not lost at rate 0.
Tags:    learning rate, task-free
"""

from __future__ import annotations

import math

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def rewarm(t: Progress, *, warmup: float = 0.01, floor: float = 0.1) -> float:
    T_w = warmup * t.total
    if t.step < T_w:
        return min(1.0, (t.step + 1) / T_w)
    return floor + (1 - floor) / 2 * (1 + math.cos(math.pi * (t.step - T_w) / max(t.total - T_w, 1)))
