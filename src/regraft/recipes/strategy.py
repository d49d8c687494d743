"""A strategy carries a model through a stream of tasks.

    for each task:   before · fit(new rows + the strategy's plan) · after          the version that goes on
                     release, on a copy of it                                      the version that answers

What its parts leave in memory reaches the next task; so do the classes that were learned (`classes`). Rows of memory
come beside the batch, so that a training reads a new row as often with them as without. A stream without boundaries is
one such training, over the rows of all tasks in order; where a strategy trains nothing, its edits are given the rows
batch by batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import itertools
import math
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.errors import Clash, Diverged, RegraftError, nearest
from regraft.core.parts import Answers, Context, Edit, Model, Out
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine import checkpoint
from regraft.engine.edits import apply, still
from regraft.engine.evaluate import mean_nll
from regraft.engine.fit import Meter, fit, idle
from regraft.engine.training import Training
from regraft.numerics.accumulation import accumulation
from regraft.numerics.evaluating import evaluating
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.ability_matrix import AbilityMatrix
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.resolve import modules, no_strategy
from regraft.recipes.unbroken import LEFT, InOrder, check_parts, leaving, needs, part_name, put, steps_of, task_free

TESTED_ROWS = 4096


@dataclass(frozen=True)
class Stage:
    """A training of its own, by a whole plan.

    Attributes:
        epochs: how long, in passes over the task's rows; `steps`, where it is given, says it instead.
        lr: a factor on the stream's learning rate.
        fresh: begins with the weights that the stream began with.
        tasks: which it belongs to: all, the first one alone, or those after it.
    """

    plan: Plan
    epochs: float = 1.0
    steps: int | None = None
    lr: float = 1.0
    fresh: bool = False
    tasks: Literal["all", "first", "later"] = "all"

    def __post_init__(self) -> None:
        for name in ("epochs", "lr"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise RegraftError(f"a stage's {name} is {getattr(self, name):g}; it must be 0 or more")

    def belongs(self, task: int) -> bool:
        return (self.epochs > 0 or self.steps is not None) and (
            self.tasks == "all" or (self.tasks == "first") == (task == 0)
        )


Step: TypeAlias = Edit | Stage


@dataclass(frozen=True)
class Strategy:
    """How to learn each task of a stream.

    Attributes:
        plan: what is added to plain training on the task's rows; a feed `new` of its own draws them in place of
            `shuffled`.
        labels: what is learned from labels, if not the cross-entropy of all rows alike.
        before, after: edits and trainings around it, in order.
        release: the same on a copy that is tested, and not gone on with.
        reads: whether training reads the rows of the task or of all tasks so far.
        fresh: every task begins with the weights that the stream began with.
        epochs: a factor on the length of training; 0: none.
    """

    plan: Plan = field(default_factory=Plan)
    labels: tuple[Weighted, ...] = ()
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    release: tuple[Step, ...] = ()
    reads: Literal["task", "all"] = "task"
    fresh: bool = False
    epochs: float = 1.0

    def __add__(self, other: Strategy) -> Strategy:
        if self.labels and other.labels and self.labels != other.labels:
            said = " and ".join(str([str(w.part) for w in s.labels]) for s in (self, other))
            raise Clash(f"both strategies say how labels are learned: {said}", do="Keep one")
        for when in ("before", "after", "release"):
            if both := next((s for s in getattr(other, when) if s in getattr(self, when)), None):
                raise Clash(f"both strategies have {both} in `{when}`", do="Keep one")
        for one, another in ((self, other), (other, self)):
            if not one.epochs and another.epochs and (another.labels or another.plan != Plan()):
                raise Clash(
                    "one strategy trains in stages of its own alone, which the other's plan is not part of",
                    do="Keep one",
                )
        joined = {n: getattr(self, n) + getattr(other, n) for n in ("plan", "before", "after", "release")}
        plain = {f.name: f.default for f in fields(self)}
        for name in ("reads", "fresh", "epochs"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if plain[name] not in (mine, theirs) and mine != theirs:
                raise Clash(f"the strategies set {name} to {mine!r} and {theirs!r}", do="Keep one")
            joined[name] = theirs if mine == plain[name] else mine
        return Strategy(labels=self.labels or other.labels, **joined)


@dataclass(frozen=True)
class Method:
    """A strategy by name: called with knobs, it gives the strategy.

    Attributes:
        defaults: all its knobs.
        tune: the knobs that depend on the data, each with values to choose among.
        null: the knobs at which it does nothing.
    """

    name: str
    make: Callable[..., Strategy]
    defaults: Mapping[str, Any]
    tune: Mapping[str, Sequence[Any]]
    null: Mapping[str, Any]

    def __call__(self, **knobs: Any) -> Strategy:
        if unknown := next((knob for knob in knobs if knob not in self.defaults), None):
            raise RegraftError(f"{self.name} has no knob {unknown!r}{nearest(unknown, self.defaults)}")
        return self.make(**knobs)


def method(
    *, tune: Mapping[str, Sequence[Any]] | None = None, null: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Strategy]], Method]:
    """A method from a function of keyword-only knobs that returns its strategy."""

    def named(make: Callable[..., Strategy]) -> Method:
        defaults = {name: p.default for name, p in inspect.signature(make).parameters.items()}
        for what, knobs in (("tune", tune or {}), ("null", null or {})):
            if unknown := next((knob for knob in knobs if knob not in defaults), None):
                hint = nearest(unknown, defaults)
                raise RegraftError(f"{make.__name__} has no knob {unknown!r}, which {what} names{hint}")
        return Method(make.__name__, make, defaults, tune or {}, null or {})

    return named


def method_named(name: str) -> Method:
    """The method of a file in `strategies/`, or of the Python file that `name` is the path of; a+b is both together.

    The knobs of a+b are a__knob and b__knob, but for `memory`, which is one for both.
    """
    if "+" in name and not Path(name).is_file():
        return _together(name, [method_named(one) for one in name.split("+")])
    known = modules("strategies")
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise RegraftError("there is no such file", where=name)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            run = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin]
            line = error.lineno if isinstance(error, SyntaxError) else run[-1]
            why = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
            raise RegraftError(f"the file cannot be run: {why}", where=f"{name}:{line}") from None
        name = path.stem
    elif name in known:
        module = importlib.import_module(known[name])
    else:
        raise no_strategy(name)
    found = getattr(module, name, None)
    if not isinstance(found, Method):
        raise RegraftError(f"the file defines no method {name!r}", where=module.__file__, do="Put @method() over it")
    return found


def _together(name: str, methods: Sequence[Method]) -> Method:
    names = [m.name for m in methods]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise Clash(f"{twice} is twice in {name}", do="Keep one")
    of = {m.name: {knob: knob if knob == "memory" else f"{m.name}__{knob}" for knob in m.defaults} for m in methods}

    def make(**knobs: Any) -> Strategy:
        first, *others = (m(**{mine: knobs[its] for mine, its in of[m.name].items() if its in knobs}) for m in methods)
        return sum(others, first)

    def joined(what: str) -> dict[str, Any]:
        return {of[m.name][knob]: value for m in methods for knob, value in getattr(m, what).items()}

    return Method(name, make, joined("defaults"), joined("tune"), joined("null"))


@dataclass(frozen=True, eq=False)
class Lived:
    """What became of a stream.

    Attributes:
        scores: [tasks + 1, tests], before the first task and after each: of every task, or of the scenario's tests.
        better: whether higher or lower scores are.
        memory: what the strategy's parts left in the end.
        taught: which tests each task teaches, bool [tasks, tests], where that is not each its own.
    """

    scores: NDArray[np.float64]
    better: Literal["higher", "lower"]
    memory: Mapping[str, Any]
    taught: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        return f"Lived({', '.join(f'{name}={value:.4g}' for name, value in self.measures().items())})"

    def measures(self) -> dict[str, float]:
        """average, forgetting, backward and forward transfer, see `ability_matrix`; where classes come back, what was
        gathered and what is forgotten at once, see `accumulation`."""
        if self.taught is not None:
            return accumulation(self.scores, self.taught, better=self.better)
        learned = (None, *range(self.scores.shape[1]))
        return AbilityMatrix(self.scores, learned, better=self.better).measures()


def live(
    model: Model,
    scenario: Scenario,
    strategy: Strategy,
    training: Training,
    *,
    epochs: float = 1.0,
    meter: Meter | None = None,
    folder: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    on_task: Callable[[int, Sequence[float]], None] | None = None,
    on_notice: Callable[[str], None] = print,
) -> Lived:
    """Learns the tasks of a scenario in order; `model` ends as it is after the last.

    Without boundaries, the scores after a task are those of the model when its last row was learned, amid the training.

    Args:
        training: its `batch` counts new rows; its `steps` are set by `epochs` and the task's rows.
        folder: where the stream is kept; one that was stopped goes on from there and ends in the same bits. A stream
            that has more tasks by now goes on with those; what earlier versions score on them is NaN.
        on_task: told each task's number and the scores after it; of a stream without boundaries, in the end.
        on_notice: told of a damaged checkpoint, and that an older one serves; of what has no effect on a task that is
            learned in one step.

    Raises RegraftError for a part that cannot do what the stream asks of it.
    """
    if not 0 < epochs < float("inf"):
        raise RegraftError(f"a stream of {epochs:g} epochs; it must be over 0")
    place = None if folder is None else Path(folder)
    stream = _Stream(model, scenario, strategy, training, epochs, meter, place, checkpoint_seconds, on_notice)
    for i in range(stream.done, len(scenario.tasks)):
        if scenario.boundaries:
            stream.learn(i)
        elif i == 0:
            stream.learn_unbroken()
        if on_task is not None:
            on_task(i, list(stream.scores[i + 1]))
    taught = scenario.taught.numpy() if scenario.tests else None
    return Lived(np.array(stream.scores), scenario.better, stream.memory, taught)


class _Stream:
    def __init__(
        self,
        model: Model,
        scenario: Scenario,
        strategy: Strategy,
        training: Training,
        epochs: float,
        meter: Meter | None,
        folder: Path | None,
        checkpoint_seconds: float,
        on_notice: Callable[[str], None],
    ) -> None:
        self.model, self.scenario, self.strategy = model, scenario, strategy
        self.training, self.epochs, self.meter = training, epochs, meter
        told = scenario.task_classes
        model.task_classes = None if told is None else told.to(model.device)
        self.folder, self.checkpoint_seconds, self.on_notice = folder, checkpoint_seconds, on_notice
        own = any(feed.name == "new" for feed in strategy.plan.feeds)
        labels = strategy.labels or (Weighted(nll()),)
        self.added = strategy.plan + Plan(losses=labels)
        self.plan = Plan(() if own else (Feed("new", shuffled()),)) + self.added
        steps = (*strategy.before, *strategy.after, *strategy.release)
        keeps = strategy.fresh or any(isinstance(step, Stage) and step.fresh for step in steps)
        self.first = {name: tensor.clone() for name, tensor in model.state().items()} if keeps else {}
        self.memory: Mapping[str, Any] = {}
        self.scores: list[list[float]] = []
        self.done = 0
        self.looked_at, self.told = set[Plan](), set[str]()
        self.of = _fingerprint(scenario, strategy, training, epochs)
        if not scenario.boundaries:
            self._check_unbroken()
        saved, damage = (None, []) if folder is None else checkpoint.newest(folder / "tasks")
        for error in damage:
            on_notice(f"{error}; the checkpoint before it serves")
        if saved is not None:
            whole, tasks = self.of
            if saved["of"][0] != whole or len(tasks) < saved["done"] or _differ(saved["of"][1], tasks):
                raise RegraftError(
                    "another stream is kept here, or one of another strategy, training or length",
                    where=folder,
                    do="Use another folder, or remove this one",
                )
            self.memory, self.done = saved["memory"], saved["done"]
            more = [math.nan] * (len(scenario.judged) - len(saved["scores"][0]))
            self.scores = [[*each, *more] for each in saved["scores"]]
            self.first = saved["first"]
            model.load(saved["model"])
        else:
            self.scores.append(tested(model, scenario, strategy, {}))
            self._keep()

    def learn(self, i: int) -> None:
        """The task of this number."""
        task, strategy = self.scenario.tasks[i], self.strategy
        data = {"new": task.train}
        if strategy.reads == "all":
            data["new"] = _numbered(Rows.join(t.train for t in self.scenario.tasks[: i + 1]))
        known = self.memory.get("classes", torch.empty(0, dtype=torch.long))
        self.memory = {**self.memory, "classes": known}
        own = [Stage(self.plan, strategy.epochs, fresh=strategy.fresh)] if strategy.epochs else []
        steps = (*strategy.before, *own, *strategy.after)
        self.memory = self._through(self.model, steps, data, self.memory, i, f"{i}")
        answering, memory = self.model, self.memory
        if strategy.release:
            answering = self.model.copy()
            memory = self._through(answering, strategy.release, data, memory, i, f"{i}.release")
        self.memory = {**self.memory, "classes": torch.cat([known, task.classes]).unique()}
        self.scores.append(tested(answering, self.scenario, strategy, memory))
        self.done = i + 1
        self._keep()

    def _check_unbroken(self) -> None:
        """Raises RegraftError for a strategy that needs boundaries, and for rows that come more than once."""
        strategy = self.strategy
        if self.epochs != 1:
            said = f"a stream without boundaries is read once, not for {self.epochs:g} epochs"
            raise RegraftError(said, do="Set epochs to 1")
        counting = self._counting()
        for step in (*strategy.before, *(() if counting else strategy.after), *strategy.release):
            raise needs(part_name(step), "it comes before or after each task")
        if strategy.reads == "all":
            raise needs("the strategy", "every task reads the rows of those before it again")
        if strategy.fresh:
            raise needs("the strategy", "every task begins with the first weights")
        if strategy.epochs != 1 and not counting:
            raise needs(
                "the strategy", f"it makes {strategy.epochs:g} passes over a task, and here every row comes once"
            )
        check_parts(self.added, self.model, {"new": self._all_rows()})

    def _counting(self) -> tuple[Step, ...]:
        """The edits of a strategy that trains nothing, if what they count of rows depends on no boundary."""
        strategy = self.strategy
        return strategy.after if not strategy.epochs and all(map(task_free, strategy.after)) else ()

    def _all_rows(self) -> Rows:
        return _numbered(Rows.join(task.train for task in self.scenario.tasks))

    def learn_unbroken(self) -> None:
        """All tasks in one go."""
        ends = list(itertools.accumulate(task.train.count for task in self.scenario.tasks))
        found = self._count(ends) if self._counting() else self._train(ends)
        scores = found.pop(LEFT)
        self.memory = {**found, "classes": torch.cat([task.classes for task in self.scenario.tasks]).unique()}
        last = tested(self.model, self.scenario, self.strategy, self.memory)
        self.scores += [*scores, *[last] * (len(ends) - len(scores))]
        self.done = len(ends)
        self._keep()

    def _train(self, ends: Sequence[int]) -> dict[str, Any]:
        """One training over all rows; what memory is after it, and the scores at the ends but the last."""
        rows, plain = self._all_rows(), self.model.copy()

        def passed(ctx: Context) -> list[float]:
            put(plain, ctx.models["student"])
            return tested(plain, self.scenario, self.strategy, leaving(self.added, ctx))

        plan = Plan((Feed("new", InOrder(ends, passed)),)) + self.added
        stage = Stage(plan, steps=steps_of(rows.count, self.training.batch))
        return dict(self._take(self.model, stage, {"new": rows}, {}, self.training.seed, f"{len(ends) - 1}.0"))

    def _count(self, ends: Sequence[int]) -> dict[str, Any]:
        """The same, where nothing is trained and edits count the rows batch by batch."""
        memory: Mapping[str, Any] = {}
        scores, read = list[list[float]](), 0
        for rows in self._all_rows().chunks(self.training.batch):
            while read >= ends[len(scores)]:
                scores.append(tested(self.model, self.scenario, self.strategy, memory))
            for step in self._counting():
                memory = self._take(self.model, step, {"new": rows}, memory, self.training.seed, "")
            read += rows.count
        return {**memory, LEFT: scores}

    def _keep(self) -> None:
        if self.folder is None:
            return
        state = {"model": self.model.state(), "first": self.first, "memory": self.memory, "scores": self.scores}
        checkpoint.save(self.folder / "tasks", self.done, {**state, "done": self.done, "of": self.of})
        for left in self.folder.glob(f"{self.done - 1}.*"):
            shutil.rmtree(left)

    def _through(
        self,
        model: Model,
        steps: Sequence[Step],
        data: Mapping[str, Rows],
        memory: Mapping[str, Any],
        i: int,
        place: str,
    ) -> Mapping[str, Any]:
        """The steps of task i, one after the other, on `model`; what memory is after them."""
        for number, step in enumerate(steps):
            if not isinstance(step, Stage) or step.belongs(i):
                memory = self._take(model, step, data, memory, self.training.seed + i, f"{place}.{number}")
        return memory

    def _take(
        self,
        model: Model,
        step: Step,
        data: Mapping[str, Rows],
        memory: Mapping[str, Any],
        seed: int,
        place: str,
    ) -> Mapping[str, Any]:
        """One step on `model`; what memory is after it."""
        if not isinstance(step, Stage):
            return apply(step, model, data, memory, seed=seed)
        if step.fresh:
            model.load(self.first)
        length = max(1, round(self.epochs * step.epochs * data["new"].count / self.training.batch))
        setting = replace(self.training, steps=step.steps or length, lr=self.training.lr * step.lr, seed=seed)
        if setting.steps == 1 and len(memory.get("classes", ())):
            self._tell_idle(model, step.plan, data, setting, memory)
        folder = None if self.folder is None else self.folder / place
        return fit(
            model,
            step.plan,
            data,
            setting,
            memory=memory,
            meter=self.meter,
            folder=folder,
            checkpoint_seconds=self.checkpoint_seconds,
            on_notice=self.on_notice,
        ).memory

    def _tell_idle(
        self, model: Model, plan: Plan, data: Mapping[str, Rows], setting: Training, memory: Mapping[str, Any]
    ) -> None:
        """Says, once, what has no effect in a later task's training of one step."""
        if plan in self.looked_at:
            return
        self.looked_at.add(plan)
        for name in idle(model, plan, data, setting, memory=memory):
            if name not in self.told:
                self.told.add(name)
                said = f"{name} has no effect on tasks that are learned in one step: it holds what was there before it"
                self.on_notice(f"{said}. Give them more epochs, or a smaller batch")


def tested(model: Model, scenario: Scenario, strategy: Strategy, memory: Mapping[str, Any]) -> list[float]:
    """Every test's score: the part of its rows that is classified rightly, or their mean loss in nats."""
    says = _answers(model, strategy, memory)
    if scenario.better == "lower":
        judged = model if says is None else _Answering(model, says)
        return [mean_nll(judged, rows) for rows, _ in scenario.judged]
    answer = says or (lambda rows: model.read(rows).logits)
    found = []
    with torch.no_grad(), evaluating(model):
        for rows, asked in scenario.judged:
            logits = torch.cat([answer(chunk.to(model.device)) for chunk in rows.chunks(TESTED_ROWS)])
            if bool(logits.isnan().any()):
                raise Diverged("the answers to a test are not numbers", do="Look at its rows, or lower the rate")
            if logits.shape[1] < scenario.classes:
                has = f"the network answers with {logits.shape[1]} classes"
                raise RegraftError(f"{has}; the stream has {scenario.classes}", do="Give it a larger head")
            if asked is None:
                chosen = logits.argmax(-1)
            else:
                asked = asked.to(logits.device)
                chosen = asked[logits[:, asked].argmax(-1)]
            found.append(float((chosen.cpu() == rows["y"]).double().mean()))
    return found


class _Answering:
    """A model whose logits are what a trainable answers."""

    def __init__(self, model: Model, answer: Callable[[Rows], Tensor]) -> None:
        self.model, self.answer = model, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def read(self, rows: Rows) -> Out:
        return replace(self.model.read(rows), logits=self.answer(rows))


def _answers(model: Model, strategy: Strategy, memory: Mapping[str, Any]) -> Callable[[Rows], Tensor] | None:
    """How the model answers, if not by itself: as the strategy's trainable says."""
    name = "answer"
    stages = [step.plan for step in (*strategy.before, *strategy.after, *strategy.release) if isinstance(step, Stage)]
    answering: dict[str, Answers] = {}
    for part in (part for plan in (*stages, strategy.plan) for part in plan.trainables):
        run = part.begin(still({"student": model}, {}, memory, name=name, seed=0))
        if isinstance(run, Answers):
            answering[type(part).__name__] = run
    if len(answering) > 1:
        raise Clash(f"{' and '.join(answering)} both say how the version answers", do="Keep one")
    return next(iter(answering.values())).answer if answering and memory else None


def _fingerprint(scenario: Scenario, strategy: Strategy, training: Training, epochs: float) -> tuple[str, list[str]]:
    """What a stream's results depend on beside the network: by itself, and of each task its name, labels and shapes."""
    tests = [(rows.schema, rows.count) for rows in scenario.tests]
    whole = hashlib.sha256(repr((scenario.name, tests, strategy, training, epochs)).encode())
    tasks = [_of_task(task) for task in scenario.tasks]
    if not scenario.boundaries:  # all of it is one training
        whole.update("".join(tasks).encode())
    return whole.hexdigest(), tasks


def _of_task(task: Task) -> str:
    shapes = [(rows.schema, rows.count) for rows in (task.train, task.test)]
    digest = hashlib.sha256(repr((task.name, task.number, shapes)).encode())
    for column in ("y", "targets"):
        if column in task.train:
            digest.update(task.train[column].numpy().tobytes())
    return digest.hexdigest()


def _differ(before: Sequence[str], now: Sequence[str]) -> bool:
    return any(a != b for a, b in zip(before, now, strict=False))


def _numbered(rows: Rows) -> Rows:
    return rows.having(row=torch.arange(rows.count))
