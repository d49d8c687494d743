"""A plan: what an update is made of. `plan + plan` composes, or says what both set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

from regraft.core.errors import Clash, RegraftError
from regraft.core.parts import GradientTransform, Loss, Penalty, Sampler, Schedule, Trainable

Knob: TypeAlias = float | Schedule


@dataclass(frozen=True)
class Feed:
    """A named stream of rows.

    Args:
        name: losses that read only some feeds say so by this name.
        sampler: draws the rows.
        share: the part of every batch's rows that is drawn here, in [0, 1] (a number or a schedule); feeds without a
            share divide what is left. The total does not change: what one feed gets, the others give.
        beside: rows on top of the batch, as a multiple of it, in place of a share; as many as there are. They are drawn
            after all others.
        solo: when it has rows ready, the step is its alone.
    """

    name: str
    sampler: Sampler
    share: Knob | None = None
    beside: Knob | None = None
    solo: bool = False

    def __post_init__(self) -> None:
        if self.beside is not None and (self.share is not None or self.solo):
            raise RegraftError("a feed has a share, is beside the batch, or is solo", where=f"feed {self.name!r}")
        if isinstance(self.beside, float | int) and not 0 <= self.beside < float("inf"):
            raise RegraftError(f"beside is {self.beside}; it must be 0 or more", where=f"feed {self.name!r}")
        if isinstance(self.share, float | int) and not 0 <= self.share <= 1:
            raise RegraftError(f"share {self.share} is not between 0 and 1", where=f"feed {self.name!r}")


@dataclass(frozen=True)
class Weighted:
    """A loss or penalty and how much it counts.

    Weight 0 is absence, bit for bit. `on`: the feeds a loss reads; none: all.
    """

    part: Loss | Penalty
    weight: Knob = 1.0
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.weight, float | int) and not 0 <= self.weight < float("inf"):
            raise RegraftError(f"the weight of {self.part} is {self.weight:g}; it must be 0 or more")


@dataclass(frozen=True)
class Plan:
    """The parts of one update; `lr` is a factor in time on the learning rate."""

    feeds: tuple[Feed, ...] = ()
    losses: tuple[Weighted, ...] = ()
    penalties: tuple[Weighted, ...] = ()
    trainables: tuple[Trainable, ...] = ()
    gradients: tuple[GradientTransform, ...] = ()
    lr: Schedule | None = None

    def __add__(self, other: Plan) -> Plan:
        if self.lr is not None and other.lr is not None:
            raise Clash(f"both plans set the learning-rate schedule: {self.lr} and {other.lr}", do="Keep one")
        mine = {f.name: f for f in self.feeds}
        if twice := next((f for f in other.feeds if f.name in mine), None):
            drawn = f"{mine[twice.name].sampler} and {twice.sampler}"
            raise Clash(f"both plans have a feed {twice.name!r}: {drawn}", do="Rename one")
        for kind in ("losses", "penalties"):
            if both := next((w for w in getattr(other, kind) if w in getattr(self, kind)), None):
                raise Clash(f"both plans have {both.part} in their {kind}", do="Keep one, with the sum of the weights")
        joined = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "lr"}
        return Plan(**joined, lr=self.lr or other.lr)

    def __post_init__(self) -> None:
        fixed = sum(f.share for f in self.feeds if isinstance(f.share, float | int) and not f.solo)
        if fixed > 1 + 1e-9:
            shares = {f.name: f.share for f in self.feeds if f.share is not None}
            raise RegraftError(f"the feeds' shares add up to {fixed:g}, over 1: {shares}")
        names = {f.name for f in self.feeds}
        if len(names) < len(self.feeds):
            raise Clash(f"two feeds have one name: {[f.name for f in self.feeds]}", do="Rename one")
