"""A constant factor on the learning rate, reached at once.

    f(t) = value

Tags:    learning rate, task-free
"""

from __future__ import annotations

from regraft.core.define import schedule
from regraft.core.parts import Progress


@schedule
def constant(t: Progress, *, value: float = 1.0) -> float:
    return value
