"""From one value to another along half a cosine.

    f(t) = late + (early - late) / 2 · (1 + cos(π t / T))

Tags:    any data
"""

from __future__ import annotations

import math

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def half_cosine(t: Progress, *, early: float = 1.0, late: float = 0.0) -> float:
    return late + (early - late) / 2 * (1 + math.cos(math.pi * t.share))
