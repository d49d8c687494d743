"""Grounds of one's own data, from a recipe file of `regraft bench continual`.

methods: [er, der_pp, mine.py]
grounds:
  products:
    judged: {train: may.csv, test: june.csv, label: category, tasks: 5}
    tuning: {train: toys.csv, label: category, tasks: 5}       # none: methods are judged at their defaults
    network: {perceptron: [256, 256]}
    epochs: 20
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.labelled import Labelled, labelled
from regraft.data.scenario import Scenario, Task, blurred, few_shot, recurring, split_classes
from regraft.engine.training import Training
from regraft.models.backbones import of_timm, pretrained, tokenizer_of
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.numerics.mixture import places_by
from regraft.recipes.comparison import Ground
from regraft.recipes.files import read_mapping
from regraft.recipes.resolve import refused

HELD_OUT = 0.2
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Label = Annotated[str, BeforeValidator(lambda said: str(said) if isinstance(said, int | float) else said)]
MOST_NAMED = 8


def _tasks_or_lists(said: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One error in place of one for each that `tasks` could be."""
    try:
        return check(said)
    except ValidationError:
        raise ValueError(f"must be a number of tasks or a list of lists of labels, not {said!r}") from None


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamFile(_Said):
    """A stream of tasks: rows with labels, dealt out by class, or by the values of a column.

    Features of a table are standardised; images and texts are not. Columns of `train` and `test` meet by their names.

    Attributes:
        train, test: as `data.labelled` reads them; without `test` a fifth of `train` is held out, by seed.
        columns: the columns of numbers that are read; none: all of them.
        tasks: how many of equally many classes, dealt out by seed; or the labels of each.
        by: a column whose values are the tasks, ascending, in place of `tasks`.
        told: rows say of which task they are.
        shots: rows of each class after the first task. blur: share of rows that go to other tasks. times: how often
            each task comes.
    """

    train: str
    test: str | None = None
    label: str = "label"
    text: str | None = None
    size: tuple[Count, Count] | None = None
    columns: tuple[str, ...] | None = None
    tasks: Annotated[Count | tuple[tuple[Label, ...], ...] | None, WrapValidator(_tasks_or_lists)] = None
    by: str | None = None
    told: bool = False
    shots: Count | None = None
    blur: Share = 0.0
    times: Count = 1

    @model_validator(mode="after")
    def _one_way(self) -> StreamFile:
        if (self.tasks is None) == (self.by is None):
            raise ValueError("a stream says `tasks` or `by`, one of them")
        if self.text is not None and self.columns is not None:
            raise ValueError("a stream reads `text` or `columns`, one of them")
        if self.columns == ():
            raise ValueError("`columns` names no column")
        return self


class NetworkFile(_Said):
    """One of: layers of a perceptron between inputs and classes; a network of timm; a folder or hub name of
    transformers."""

    perceptron: tuple[Count, ...] | None = None
    timm: str | None = None
    transformers: str | None = None
    pretrained: bool = False

    @model_validator(mode="after")
    def _one(self) -> NetworkFile:
        if sum(v is not None for v in (self.perceptron, self.timm, self.transformers)) != 1:
            raise ValueError("a network is one of `perceptron`, `timm`, `transformers`")
        return self


class GroundFile(_Said):
    """One ground. `lr`, `batch` and `optimizer` are those of plain training; tuning varies the learning rate."""

    judged: StreamFile
    tuning: StreamFile | None = None
    network: NetworkFile = NetworkFile(perceptron=(256, 256))
    memory: Count = 200
    epochs: Annotated[float, Field(gt=0)] = 10.0
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 0.05
    optimizer: Literal["SGD", "AdamW"] = "SGD"


class BenchFile(_Said):
    """A recipe of `bench continual`."""

    bench: Literal["continual"] = "continual"
    methods: tuple[str, ...] = ()
    grounds: dict[str, GroundFile]


def read_bench(path: Path) -> BenchFile:
    """Raises RegraftError for a file that is not such a recipe, and says where."""
    said = read_mapping(path)
    try:
        return BenchFile.model_validate(said)
    except ValidationError as error:
        raise refused(error, path, BenchFile) from None


def local_files(path: Path) -> list[Path]:
    """The files on this machine that a recipe's grounds are made of."""
    found = []
    for ground in read_bench(path).grounds.values():
        streams = [stream for stream in (ground.judged, ground.tuning) if stream is not None]
        named = [_local(path.parent, source) for stream in streams for source in (stream.train, stream.test) if source]
        if ground.network.transformers is not None:
            named.append(_local(path.parent, ground.network.transformers))
        for each in map(Path, named):
            found += sorted(file for file in each.rglob("*") if file.is_file()) if each.is_dir() else [each]
    return [file for file in dict.fromkeys(found) if file.is_file()]


def _local(home: Path, source: str) -> str:
    """A source as `labelled` reads it: a file or folder beside the recipe, or whatever else the name says."""
    beside = home / source
    return str(beside) if beside.exists() else source


def ground_of(path: Path, name: str) -> Ground:
    """The ground of that name in a recipe file. Data are read once a process."""
    said = read_bench(path).grounds[name]
    home = path.parent
    network = said.network
    if network.transformers is not None:
        network = network.model_copy(update={"transformers": _local(home, network.transformers)})
    training = Training(steps=1, batch=said.batch, lr=said.lr, optimizer=said.optimizer, clip=None, explode=1e9)
    streams = (said.judged, said.tuning)
    reads = list(dict.fromkeys(_reads(_rows(home, each, network)[0]) for each in streams if each is not None))
    columns = "; ".join(f"{'to tune on, ' if i else ''}{what}" for i, what in enumerate(reads) if what)
    says = (
        f"{said.judged.train}: {_tasks(said.judged)}, {_count(said.epochs, 'epoch')}{'; ' if columns else ''}{columns}"
    )

    def stream(each: StreamFile, key: str) -> Callable[[int], Scenario]:
        return lambda seed: _stream(home, each, network, seed, f"{path}, ground {name!r}, {key}")

    return Ground(
        says,
        stream(said.judged, "judged"),
        None if said.tuning is None else stream(said.tuning, "tuning"),
        lambda tasks, seed: _network(network, tasks, seed),
        training,
        said.epochs,
        said.memory,
    )


def _tasks(said: StreamFile) -> str:
    count = said.tasks if isinstance(said.tasks, int) else len(said.tasks or ())
    what = [_count(count, "task") if said.by is None else f"a task for each {said.by}"]
    what += ["told"] * said.told
    what += [] if said.shots is None else [f"{_count(said.shots, 'row')} of each class after the first task"]
    what += [f"{said.blur:.0%} of the rows in other tasks"] if said.blur else []
    what += [f"each {said.times} times"] if said.times > 1 else []
    return ", ".join(what)


def _reads(rows: Labelled) -> str:
    """Which columns of a table are read, and which are not; empty for what is no table."""
    if not rows.read or not (rows.unread or rows.rows["x"].dim() == 2):
        return ""
    what = f"{_count(len(rows.read), 'column')} read ({_named(rows.read)})"
    return what + (f", not {', '.join(rows.unread)}" if rows.unread else "")


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'' if number == 1 else 's'}"


def _named(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    return ", ".join(columns[:MOST_NAMED]) + more


def _stream(home: Path, said: StreamFile, network: NetworkFile, seed: int, where: str) -> Scenario:
    """The tasks of a stream; `where` the recipe says it, for the error."""
    train, test = _rows(home, said, network)
    try:
        return _dealt(said, train, test, seed)
    except RegraftError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        raise RegraftError(what, where=where, do=error.do) from None


def _dealt(said: StreamFile, train: Labelled, test: Labelled | None, seed: int) -> Scenario:
    if test is None:
        order = torch.randperm(train.rows.count, generator=torch.Generator().manual_seed(seed))
        held = round(HELD_OUT * train.rows.count)
        learned, asked = train.rows.take(order[held:]), train.rows.take(order[:held])
        places = order[held:], order[:held]
    else:
        learned, asked = train.rows, test.rows
        places = torch.arange(learned.count), torch.arange(asked.count)
    if said.by is not None:
        groups = [
            [found.others[said.by][i] for i in at.tolist()]
            for found, at in zip((train, test or train), places, strict=True)
        ]
        tasks = _by_values(learned, asked, groups[0], groups[1], said.told)
    elif isinstance(said.tasks, int):
        tasks = split_classes(learned, asked, said.tasks, order=seed, told=said.told, labels=train.classes)
    else:
        numbers = {name: i for i, name in enumerate(train.classes)}
        if unknown := next((c for group in said.tasks or () for c in group if c not in numbers), None):
            raise RegraftError(f"no row of {said.train} has the label {unknown!r}; there are {list(numbers)[:8]}")
        dealt = [[numbers[c] for c in group] for group in said.tasks or ()]
        tasks = split_classes(learned, asked, dealt, told=said.told, labels=train.classes)
    tasks = few_shot(tasks, said.shots, seed=seed) if said.shots is not None else tasks
    tasks = blurred(tasks, said.blur, seed=seed) if said.blur else tasks
    tasks = recurring(tasks, said.times) if said.times > 1 else tasks
    return _standardised(tasks)


def _by_values(train: Rows, test: Rows, train_by: list[Any], test_by: list[Any], told: bool) -> Scenario:
    learned, asked = (places_by(Rows({"by": by}), "by") for by in (train_by, test_by))
    found = []
    for i, value in enumerate(sorted({**learned, **asked}, key=lambda v: (str(type(v)), v))):
        its, tests = (rows.take(at.get(value, [])) for rows, at in ((train, learned), (test, asked)))
        found.append(Task.of(str(value), its, tests, *((its["y"].unique(), i) if told else ())))
    return Scenario("domains", tuple(found))


def _standardised(tasks: Scenario) -> Scenario:
    """Tables with features of mean 0 and variance 1 on the first task, all that is known when the stream begins; a
    feature that does not vary there keeps its scale. Images and texts stay as they are."""
    first = tasks.tasks[0].train["x"]
    if first.dim() != 2 or not first.is_floating_point():
        return tasks
    varies = first.amax(0) > first.amin(0)
    mean = first.double().mean(0).float()
    deviation = torch.where(varies, first.double().std(0, correction=0).float(), 1.0)

    def scaled(rows: Rows) -> Rows:
        return rows.having(x=(rows["x"] - mean) / deviation)

    return replace(tasks, tasks=tuple(replace(t, train=scaled(t.train), test=scaled(t.test)) for t in tasks.tasks))


@cache
def _rows(home: Path, said: StreamFile, network: NetworkFile) -> tuple[Labelled, Labelled | None]:
    apart = () if said.by is None else (said.by,)
    tokenise = _tokenizer(network) if said.text is not None else None

    def read(source: str, classes: Sequence[str] | None) -> Labelled:
        found = labelled(
            _local(home, source),
            label=said.label,
            text=said.text,
            tokenise=tokenise,
            size=said.size,
            apart=apart,
            classes=classes,
            columns=said.columns,
        )
        _check_inputs(found.rows["x"], network, source)
        return found

    train = read(said.train, None)
    return train, None if said.test is None else _as_named(said, train, read(said.test, train.classes))


def _as_named(said: StreamFile, train: Labelled, test: Labelled) -> Labelled:
    """The rows to be tested on with the columns of those to learn, in their order. Raises RegraftError for others."""
    if train.read and test.read and said.text is None:
        only = [[name for name in a.read if name not in b.read] for a, b in ((train, test), (test, train))]
        if only[0] or only[1]:
            has = [
                f"{file} alone has {', '.join(map(repr, names[:MOST_NAMED]))}"
                for file, names in zip((said.train, said.test), only, strict=True)
                if names
            ]
            do = "Name them alike, or give `columns: [...]`"
            raise RegraftError(f"the columns that are read differ: {'; '.join(has)}", where=said.test, do=do)
        if train.read != test.read:
            x = test.rows["x"][:, [test.read.index(name) for name in train.read]]
            test = replace(test, rows=test.rows.having(x=x), read=train.read)
    a, b = (found.rows["x"] for found in (train, test))
    if a.is_floating_point() and a.shape[1:] != b.shape[1:]:
        what = f"its rows are {list(b.shape[1:])}, those of {said.train} {list(a.shape[1:])}"
        raise RegraftError(what, where=said.test)
    return test


def _check_inputs(x: Tensor, network: NetworkFile, source: str) -> None:
    """Raises RegraftError for inputs that the network cannot read."""
    texts = network.transformers is not None and x.dtype in (torch.int32, torch.int64) and x.dim() == 2
    if not (x.is_floating_point() or texts):
        what = f"x is {list(x.shape)} {x.dtype}; only networks of transformers read whole numbers, [rows, length]"
        raise RegraftError(what, where=source, do="Keep x as floats")
    if network.perceptron is None and not texts and x.dim() != 4:
        what = f"x is {list(x.shape)}; the network reads images, [rows, channels, height, width]"
        raise RegraftError(what, where=source, do="Use `perceptron: [256, 256]`")


def _tokenizer(network: NetworkFile) -> Callable[[Sequence[str]], Tensor] | None:
    return None if network.transformers is None else tokenizer_of(network.transformers)


def _network(said: NetworkFile, tasks: Scenario, seed: int) -> Classifier:
    x = tasks.tasks[0].train["x"]
    with seeded(seed):
        if said.timm is not None:
            return of_timm(said.timm, tasks.classes, pretrained=said.pretrained, in_chans=x.shape[1])
        if said.transformers is not None:
            return pretrained(said.transformers, tasks.classes, "images" if x.is_floating_point() else "text")
        widths = (x[0].numel(), *(said.perceptron or ()), tasks.classes)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return Classifier(nn.Sequential(nn.Flatten(), *layers[:-1]))
