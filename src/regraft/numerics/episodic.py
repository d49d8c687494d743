"""A memory of tasks: as many random rows of each as of any other, so many in all.

A stream's rows say in column `task` of which one they are, or else every update is a task of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.choice import some
from regraft.numerics.classes import task_of


class Episodic:
    """What earlier updates left under `key`, and what this one leaves.

    Attributes:
        now: the task of this update. `past`: the rows of every other task that was learned, in order.
    """

    def __init__(self, ctx: Context, key: str, size: int, source: str) -> None:
        self.ctx, self.key, self.size, self.source = ctx, key, size, source
        left: Mapping[str, Mapping[str, Tensor]] = ctx.memory.get(key, {})
        self.kept = {task: Rows(dict(columns)) for task, columns in left.items()}
        task = task_of(ctx, source, key)
        self.now = str(len(self.kept) if task is None else task)
        self.past = [rows for task, rows in self.kept.items() if task != self.now]

    def left(self) -> dict[str, dict[str, Tensor]]:
        """By task, the columns of its rows; earlier tasks make room for this one."""
        tasks = [*(task for task in self.kept if task != self.now), self.now]
        each, more = divmod(self.size, len(tasks))
        left = {}
        for place, task in enumerate(tasks):
            count = each + (place < more)
            rows = self.kept.get(task, Rows({}))
            if task == self.now:
                rows = self._some(Rows.join([rows, self._some(self._new(), count)]), count)
            if count:
                left[task] = {name: rows[name][:count].clone() for name in rows}
        return left

    def _new(self) -> Rows:
        rows = self.ctx.rows(self.source)
        return rows.only(*(name for name in rows if name != "row"))

    def _some(self, rows: Rows, count: int) -> Rows:
        """Random rows, in memory."""
        taken = some(rows, count, self.ctx.rng)
        if foreign := [name for name, column in taken.items() if not isinstance(column, Tensor)]:
            raise RegraftError(f"{self.key}: column {foreign[0]!r} is not a tensor, so it cannot be kept")
        return taken
