"""Knobs that may move in time, and what they are worth now."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from regraft.core.errors import RegraftError
from regraft.core.parts import Progress, ScheduleRun
from regraft.core.plan import Knob


def begun(knob: Knob, begin: Callable[[Any], Any]) -> float | ScheduleRun:
    """The number, or the schedule at work."""
    return float(knob) if isinstance(knob, float | int) else begin(knob)


def worth(knob: float | ScheduleRun, now: Progress) -> float:
    """The number, or what the schedule gives.

    Raises RegraftError for a schedule that has no value now, or none that is finite and 0 or more.
    """
    if isinstance(knob, float):
        return knob
    try:
        value = knob(now)
    except (ArithmeticError, ValueError) as error:
        raise RegraftError(f"the schedule {knob} has no value at step {now.step}: {error}") from error
    if not 0 <= value < math.inf:
        raise RegraftError(f"the schedule {knob} gives {value:g} at step {now.step}", do="Look at its knobs")
    return value
