"""The feeds of a plan at work: whose rows a step reads, and how many of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from regraft.core.errors import RegraftError
from regraft.core.parts import Follows, Progress, SamplerRun, ScheduleRun
from regraft.core.plan import Feed
from regraft.core.rows import Rows
from regraft.numerics.knobs import begun, worth

Drawn: TypeAlias = Sequence[tuple[str, Rows]]
"""A step's rows by feed, in the plan's order; feeds that give none are not there."""


class Feeds:
    """Shares are exact over time: what rounding keeps back, `carry`, is drawn in a later step.

    What a feed with a share cannot give, the feeds without one do; if every feed has a share, what rounding leaves of
    the batch goes to those that were kept back most. What a feed beside the batch cannot give, nobody does.

    Raises RegraftError for shares that leave a part of every batch to nobody.
    """

    def __init__(self, feeds: Sequence[Feed], begin: Callable[[Any], Any]) -> None:
        self.samplers: dict[str, SamplerRun] = {f.name: begin(f.sampler) for f in feeds}
        self.followers = {name: run for name, run in self.samplers.items() if isinstance(run, Follows)}
        self.solo = [f.name for f in feeds if f.solo]
        mixed = [f for f in feeds if not f.solo]
        self.shares = {f.name: begun(f.share, begin) for f in mixed if f.share is not None}
        self.beside = {f.name: begun(f.beside, begin) for f in mixed if f.beside is not None}
        self.free = [f.name for f in mixed if f.share is None and f.beside is None]
        self.alone = (self.free[0], self.samplers[self.free[0]]) if len(feeds) == len(self.free) == 1 else None
        self.carry: dict[str, float] = {}
        fixed = [share for share in self.shares.values() if isinstance(share, float)]
        if not (self.free or self.solo) and len(fixed) == len(self.shares) and sum(fixed) < 1 - 1e-9:
            raise RegraftError(f"the feeds' shares add up to {sum(fixed):g} and no feed takes the rest")

    def draw(self, batch: int, now: Progress) -> Drawn:
        """The rows of the next step; `batch`: how many, those beside it not counted."""
        if self.alone is not None:
            name, sampler = self.alone
            return [(name, rows)] if (rows := sampler.draw(batch)).count else []
        for name in self.solo:
            if (rows := self.samplers[name].draw(batch)).count:
                return [(name, rows)]
        wanted = self._wanted(self.shares, batch, now)
        counts: dict[str, int] = {}
        rest = batch
        for name, share in wanted.items():
            counts[name] = min(max(int(share + 1e-9), 0), rest)
            rest -= counts[name]
        if not self.free:
            for name in sorted(wanted, key=lambda n: counts[n] - wanted[n])[:rest]:
                counts[name] += 1
        drawn = {name: self.samplers[name].draw(count) for name, count in counts.items() if count}
        rest = batch - sum(rows.count for rows in drawn.values())
        for i, name in enumerate(self.free):
            drawn[name] = self.samplers[name].draw(rest * (i + 1) // len(self.free) - rest * i // len(self.free))
        for name, share in self._wanted(self.beside, batch, now).items():
            wanted[name], counts[name] = share, int(share + 1e-9)
            if not counts[name]:
                continue
            if name in self.followers:
                self.followers[name].follow(drawn)
            drawn[name] = self.samplers[name].draw(counts[name])
        self.carry = {name: share - counts[name] for name, share in wanted.items()}
        return [(name, drawn[name]) for name in self.samplers if name in drawn and drawn[name].count]

    def _wanted(self, knobs: Mapping[str, float | ScheduleRun], batch: int, now: Progress) -> dict[str, float]:
        return {name: self.carry.get(name, 0.0) + batch * worth(knob, now) for name, knob in knobs.items()}
