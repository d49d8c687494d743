"""What every recipe of a ground may say of its stream."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from regraft.data.scenario import Scenario, blurred, recurring, unbroken
from regraft.recipes.files import Said

HELD_OUT = 0.2
"""The share of rows that is tested on, where a recipe names no tests."""

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Course(Said):
    """How the tasks of a stream come.

    Attributes:
        blur: share of rows that go to other tasks. times: how often each task comes.
        boundaries: whether a learner is told where a task ends; if not, the stream is read once, in order.
    """

    blur: Share = 0.0
    times: Count = 1
    boundaries: bool = True

    def of(self, tasks: Scenario, seed: int) -> Scenario:
        tasks = blurred(tasks, self.blur, seed=seed) if self.blur else tasks
        tasks = recurring(tasks, self.times) if self.times > 1 else tasks
        return tasks if self.boundaries else unbroken(tasks)

    def says(self) -> list[str]:
        what = [f"{self.blur:.0%} of the rows in other tasks"] if self.blur else []
        what += [f"each {self.times} times"] if self.times > 1 else []
        return what + ([] if self.boundaries else ["in order and without boundaries"])


def check_streams(judged: Course, tuning: Course | None, epochs: float | None) -> None:
    """Raises ValueError for two streams that do not go together, or that are not read for so many epochs."""
    if judged == tuning:
        raise ValueError("the stream to tune on is the one that is judged")
    if tuning is not None and judged.boundaries != tuning.boundaries:
        raise ValueError("`boundaries` must be alike for the stream that is judged and the one to tune on")
    if not judged.boundaries and epochs not in (None, 1):
        raise ValueError(f"a stream without boundaries is read once: epochs is {epochs:g}")


def counted(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'' if number == 1 else 's'}"
