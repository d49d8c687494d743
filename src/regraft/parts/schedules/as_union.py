"""How many rows of a memory come beside each new row, so that a pass over the new rows reads all of the memory once.

    beside = |P| / |D|        P: the rows in memory, D: the new rows

It is the share that P has in P and D shuffled together, which methods that correct for it expect. It does not change in
time, and is 0 in a first update.

Paper:   "iCaRL: Incremental Classifier and Representation Learning" Rebuffi et al. 2017. https://arxiv.org/abs/1611.07725
Needs:   rows named `source`; what earlier updates left in memory under `key`.
Tags:    replay
"""

from __future__ import annotations

from dataclasses import dataclass

from regraft.core.parts import Context, Progress, ScheduleRun
from regraft.core.rows import Rows


@dataclass(frozen=True)
class as_union:
    key: str = "exemplars"
    source: str = "new"

    def begin(self, ctx: Context) -> ScheduleRun:
        kept = ctx.memory.get(self.key, {"columns": {}})
        beside = Rows(kept["columns"]).count / ctx.rows(self.source).count

        def constant(progress: Progress) -> float:
            return beside

        return constant
