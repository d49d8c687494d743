"""A stream without boundaries between its tasks: one training over its rows, each read once, in order."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.core.errors import Clash
from regraft.core.parts import Answers, Context, Leaves, Model, Stateful
from regraft.core.plan import Plan
from regraft.core.rows import Rows
from regraft.engine.edits import still

LEFT = "ends"


@dataclass(frozen=True, eq=False)
class InOrder:
    """Draws the rows of `new` as they lie there, each once.

    Attributes:
        ends: how many rows there are up to the end of each part of the stream.
        passed: called when all rows of a part but the last were learned; what it returns is left as `ends`.
    """

    ends: Sequence[int]
    passed: Callable[[Context], list[float]] = field(repr=False)

    def begin(self, ctx: Context) -> _InOrder:
        return _InOrder(self, ctx)


class _InOrder(Stateful):
    state = ("at", "found")

    def __init__(self, part: InOrder, ctx: Context) -> None:
        self.part, self.ctx, self.rows = part, ctx, ctx.rows("new")
        self.at, self.found = 0, list[list[float]]()

    def draw(self, count: int) -> Rows:
        while len(self.found) < len(self.part.ends) - 1 and self.at >= self.part.ends[len(self.found)]:
            self.found.append(self.part.passed(self.ctx))
        if count > 1 and self.rows.count - self.at == count + 1:
            count += 1  # batch normalisation cannot train on the one that would be left
        drawn = self.rows.take(slice(self.at, self.at + count))
        self.at += drawn.count
        return drawn

    def leave(self) -> Mapping[str, Any]:
        return {LEFT: self.found}


def steps_of(rows: int, batch: int) -> int:
    """How many steps read every row once."""
    return max(1, rows // batch + (rows % batch > 1))


def put(model: Model, running: Model) -> None:
    """The weights of `running`, as they are in effect amid training, in a plain model."""
    plain = model.state()
    now = {**running.state(), **running.weights()}
    model.load({name: now[name].detach() for name in plain})


def leaving(plan: Plan, ctx: Context) -> dict[str, Any]:
    """What the trainables that say how the version answers would leave, did training end here; it goes on as it was."""
    memory: dict[str, Any] = {}
    for run in map(ctx.begin, plan.trainables):
        if isinstance(run, Answers) and isinstance(run, Leaves):
            kept = copy.deepcopy(run.state_dict()) if isinstance(run, Stateful) else None
            memory |= copy.deepcopy(dict(run.leave()))
            if isinstance(run, Stateful) and kept is not None:
                run.load_state_dict(kept)
    return memory


def check_parts(plan: Plan, model: Model, data: Mapping[str, Rows]) -> None:
    """Raises Clash for a part that needs boundaries, or that would not leave rows in order."""
    for feed in plan.feeds:
        if feed.name == "new":
            raise needs(part_name(feed.sampler), "it draws new rows in an order of its own")
        if feed.beside is None:
            raise needs(part_name(feed.sampler), "its rows come in the place of new ones, of which each is read once")
    for part in _parts(plan):
        memory, models = _Asked({}), _Asked({"student": model, "before": model})
        run = part.begin(still(models, data, memory, name=part_name(part), seed=0))
        if "classes" in memory.asked:
            raise needs(part_name(part), "it tells the classes of earlier tasks from others")
        if "before" in models.asked:
            raise needs(part_name(part), "it keeps to the model as it was when the task began")
        if isinstance(run, Leaves) and not task_free(part):
            raise needs(part_name(part), "what it learns when a task ends serves the next")


def needs(what: str, why: str) -> Clash:
    said = f"{what} cannot act on a stream without boundaries between its tasks: {why}"
    return Clash(said, do="Take methods tagged task-free, such as er")


class _Asked(dict[str, Any]):
    """Remembers which keys it was asked for."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.asked: set[object] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, other: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, other)

    def __contains__(self, name: object) -> bool:
        self.asked.add(name)
        return super().__contains__(name)


def _parts(plan: Plan) -> Iterator[Any]:
    yield from (feed.sampler for feed in plan.feeds)
    for weighted in (*plan.losses, *plan.penalties):
        if weighted.weight != 0:
            yield weighted.part
    yield from (*plan.trainables, *plan.gradients)
    knobs = [*(feed.beside for feed in plan.feeds), *(w.weight for w in (*plan.losses, *plan.penalties)), plan.lr]
    yield from (knob for knob in knobs if hasattr(knob, "begin"))


def part_name(part: Any) -> str:
    """A part, edit or stage as an error calls it."""
    return str(getattr(part, "name", type(part).__name__))


def task_free(part: Any) -> bool:
    """Whether the words of its file say so."""
    words = sys.modules[type(part).__module__].__doc__ or ""
    return "task-free" in words.partition("Tags:")[2]
