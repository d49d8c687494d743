"""Nothing at first, then all of it: a weight that begins after a part of the steps.

    f(t) = 0 while t / T < at, then height

Tags:    task-free
"""

from __future__ import annotations

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def onset(t: Progress, *, at: float = 0.1, height: float = 1.0) -> float:
    return height if t.step >= at * t.total else 0.0
