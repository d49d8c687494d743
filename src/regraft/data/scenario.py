"""Scenarios: a stream of tasks made of rows. They are data: what a learner is told of them is said in them.

class-incremental     each task brings classes of its own; one head for all
task-incremental      the same, and of every row the task is known: it is learned and asked among that task's classes
domain-incremental    the classes stay, the inputs change
long                  each task has a few classes drawn at random, so that they come back
task-free             one unbroken run: no learner is told where a task ends, every row comes once, in order

Paper: "Three types of incremental learning" van de Ven et al. 2022. https://arxiv.org/abs/1904.07734
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows


@dataclass(frozen=True)
class Task:
    """One part of a stream.

    Attributes:
        train, test: rows, those of `train` with their numbers in column `row`; classes are in column `y`, int64.
        classes: those that it teaches, ascending, int64: of column `y`, or the tokens that are targets in text.
        asked: when it is tested, the classes to choose among; None: any.
        number: what rows have in their column `task`, where a learner is told of which task they are.
    """

    name: str
    train: Rows
    test: Rows
    classes: Tensor
    asked: Tensor | None = None
    number: int | None = None

    @classmethod
    def of(cls, name: str, train: Rows, test: Rows, asked: Tensor | None = None, number: int | None = None) -> Task:
        if not train or not test:
            raise RegraftError("a task needs rows to learn and rows to be tested on", where=f"task {name!r}")
        train = train.having(row=torch.arange(train.count))
        if number is not None:
            train, test = (rows.having(task=torch.full((rows.count,), number)) for rows in (train, test))
        return cls(name, train, test, _classes(train), asked, number)


def _classes(rows: Rows) -> Tensor:
    found = torch.empty(0, dtype=torch.long)
    if "y" in rows:
        found = rows["y"].unique()
    elif "targets" in rows:
        found = rows["targets"][rows["counts"] > 0].unique()
    return found


@dataclass(frozen=True)
class Scenario:
    """Tasks in the order they are learned.

    Attributes:
        better: `higher`: it is judged by the part of rows classified rightly; `lower`: by their mean loss in nats.
        tests: the rows that it is judged on, where they are not those of each task: so many tasks share them.
        boundaries: whether a learner is told where a task ends.
    """

    name: str
    tasks: tuple[Task, ...]
    better: Literal["higher", "lower"] = "higher"
    tests: tuple[Rows, ...] = ()
    boundaries: bool = True

    @property
    def judged(self) -> list[tuple[Rows, Tensor | None]]:
        """What every version is tested on, and the classes that it chooses among; None: any."""
        return [(rows, None) for rows in self.tests] or [(task.test, task.asked) for task in self.tasks]

    @property
    def taught(self) -> Tensor:
        """Which tests a task teaches a class of, bool [tasks, tests]; without `tests`, each task its own."""
        if not self.tests:
            return torch.eye(len(self.tasks), dtype=torch.bool)
        of = [rows["y"].unique() for rows in self.tests]
        return torch.tensor([[bool(torch.isin(y, task.classes).any()) for y in of] for task in self.tasks])

    @property
    def classes(self) -> int:
        """How many outputs one head needs."""
        return max(1 + int(task.classes.max()) if len(task.classes) else 0 for task in self.tasks)

    @property
    def told(self) -> bool:
        """Whether rows say of which task they are."""
        return any(task.number is not None for task in self.tasks)

    @property
    def task_classes(self) -> Tensor | None:
        """Which classes each task has, bool [tasks, classes]; None where rows do not say of which task they are."""
        if not self.told:
            return None
        numbered = [(task.number, task.classes) for task in self.tasks if task.number is not None]
        found = torch.zeros(1 + max(number for number, _ in numbered), self.classes, dtype=torch.bool)
        for number, classes in numbered:
            found[number, classes] = True
        return found


def split_classes(
    train: Rows,
    test: Rows,
    tasks: int | Sequence[Sequence[int]],
    *,
    order: int | None = None,
    told: bool = False,
    name: str = "classes",
    labels: Sequence[str] = (),
) -> Scenario:
    """Each task teaches classes of its own.

    Args:
        tasks: how many, of equally many classes each; or the classes of each.
        order: a seed that shuffles the classes before they are dealt out; None: ascending.
        told: whether a test says which task it is of (task-incremental).
        labels: what the classes are called, by number; none: their numbers.

    Raises:
        RegraftError: classes cannot be dealt out evenly, one is in two tasks, or one has no rows.
    """

    def called(number: int) -> str:
        return labels[number] if labels else str(number)

    if isinstance(tasks, int):
        classes = train["y"].unique()
        if tasks < 1 or len(classes) % tasks:
            raise RegraftError(f"{len(classes)} classes cannot be dealt out to {tasks} tasks evenly")
        if order is not None:
            classes = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(order))]
        dealt = [group.tolist() for group in classes.view(tasks, -1)]
    else:
        dealt = [list(group) for group in tasks]
    if not dealt:
        raise RegraftError("the stream has no task")
    every = [c for group in dealt for c in group]
    if (twice := next((c for i, c in enumerate(every) if c in every[:i]), None)) is not None:
        raise RegraftError(f"class {called(twice)} is in two tasks")
    if (lacking := next((c for c in every if not bool((train["y"] == c).any())), None)) is not None:
        raise RegraftError(f"class {called(lacking)} has no row to learn")
    found = []
    for i, group in enumerate(dealt):
        its = torch.tensor(sorted(group))
        learned, asked = (rows.where(torch.isin(rows["y"], its)) for rows in (train, test))
        found.append(Task.of("+".join(map(called, its.tolist())), learned, asked, *((its, i) if told else ())))
    return Scenario(name, tuple(found))


def domains(
    train: Rows, test: Rows, changes: Sequence[Callable[[Tensor], Tensor]], *, name: str = "domains"
) -> Scenario:
    """The same rows again and again, their inputs `x` changed in another way in each task."""
    return Scenario(
        name,
        tuple(
            Task.of(str(i), train.having(x=change(train["x"])), test.having(x=change(test["x"])))
            for i, change in enumerate(changes)
        ),
    )


def blurred(scenario: Scenario, share: float, *, seed: int = 0) -> Scenario:
    """The same stream with blurry boundaries: `share` of each task's rows is dealt out to the other tasks at random,
    where they come at random places among the rows that stayed.

    Raises RegraftError where rows say of which task they are: there are no boundaries to blur.
    """
    if scenario.told:
        raise RegraftError("rows of this stream say of which task they are, so its boundaries cannot be blurred")
    if not 0 <= share < 1:
        raise RegraftError(f"the share is {share}; it must be at least 0 and under 1")
    dice = torch.Generator().manual_seed(seed)
    count = len(scenario.tasks)
    parts: list[list[Rows]] = [[] for _ in range(count)]
    for i, task in enumerate(scenario.tasks):
        rows = task.train
        away = torch.rand(rows.count, generator=dice) < share
        to = (
            (i + torch.randint(1, count, (rows.count,), generator=dice)) % count
            if count > 1
            else torch.full((rows.count,), i)
        )
        to = torch.where(away, to, i)
        for j in range(count):
            parts[j].append(rows.where(to == j))
    tasks = []
    for j, (task, its) in enumerate(zip(scenario.tasks, parts, strict=True)):
        at = [torch.rand(rows.count, generator=dice) if i != j else _evenly(rows.count) for i, rows in enumerate(its)]
        rows = Rows.join(its).take(torch.cat(at).argsort(stable=True))
        tasks.append(Task.of(task.name, rows, task.test, task.asked, task.number))
    return replace(scenario, tasks=tuple(tasks))


def _evenly(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / max(count, 1)


def unbroken(scenario: Scenario) -> Scenario:
    """The same stream without boundaries (task-free): one run through the rows of all tasks, as they lie there.

    Raises RegraftError where rows say of which task they are.
    """
    if scenario.told:
        raise RegraftError("rows of this stream say of which task they are, which tells its boundaries")
    return replace(scenario, boundaries=False)


def recurring(scenario: Scenario, times: int) -> Scenario:
    """Every task comes so many times, each time with other rows of it."""
    if times < 1:
        raise RegraftError(f"the tasks come {times} times; it must be at least once")
    tasks = [
        Task.of(f"{task.name} ({i + 1})", task.train.take(slice(i, None, times)), task.test, task.asked, task.number)
        for i in range(times)
        for task in scenario.tasks
    ]
    return replace(scenario, tasks=tuple(tasks))


def long_stream(
    train: Rows,
    test: Rows,
    tasks: int = 400,
    *,
    classes: int = 2,
    rows: int | None = 100,
    odds: Sequence[float] | None = None,
    seed: int = 0,
    name: str = "long",
) -> Scenario:
    """Each task is of a few classes drawn at random, so that they come back; every version is tested on each class.

    Paper: "Challenging Common Assumptions about Catastrophic Forgetting" Lesort et al. 2022.
           https://arxiv.org/abs/2207.04543

    Args:
        classes: of each task.
        rows: of each task, drawn anew from those of its classes; None: all of them.
        odds: how likely each class is drawn, classes ascending; None: all alike.

    Raises:
        RegraftError: there are fewer classes than a task has, or one cannot be tested.
    """
    known = train["y"].unique()
    if tasks < 1 or not 1 <= classes <= len(known):
        raise RegraftError(f"{tasks} tasks of {classes} classes cannot be drawn from {len(known)} classes")
    if len(missing := known[~torch.isin(known, test["y"])]):
        raise RegraftError(f"class {int(missing[0])} has no row to be tested on")
    likely = torch.ones(len(known)) if odds is None else torch.as_tensor(odds, dtype=torch.float32)
    if rows is not None and rows < 1:
        raise RegraftError(f"{rows} rows of each task; it must be at least 1")
    if likely.shape != known.shape or not bool(((likely > 0) & likely.isfinite()).all()):
        raise RegraftError(f"there are {len(likely)} odds for {len(known)} classes; each class needs one over 0")
    dice, found = torch.Generator().manual_seed(seed), []
    for i in range(tasks):
        its = known[torch.multinomial(likely, classes, generator=dice)].sort().values
        at = torch.isin(train["y"], its).nonzero()[:, 0]
        drawn = train.take(at[torch.randperm(len(at), generator=dice)[:rows]])
        found.append(Task.of(f"{i}: {'+'.join(map(str, its.tolist()))}", drawn, test))
    return Scenario(name, tuple(found), tests=tuple(test.where(test["y"] == c) for c in known))


def few_shot(scenario: Scenario, shots: int, *, seed: int = 0) -> Scenario:
    """The first task is whole; of the classes of later ones only so many rows are there."""
    if shots < 1:
        raise RegraftError(f"{shots} rows of each class; it must be at least 1")
    dice = torch.Generator().manual_seed(seed)
    first, *later = scenario.tasks

    def thinned(task: Task) -> Task:
        y = task.train["y"]
        order = torch.randperm(len(y), generator=dice)
        kept = torch.cat([order[y[order] == c][:shots] for c in task.classes])
        return Task.of(task.name, task.train.take(kept), task.test, task.asked, task.number)

    return replace(scenario, tasks=(first, *map(thinned, later)))
