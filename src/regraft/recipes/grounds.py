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
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
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


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamFile(_Said):
    """A stream of tasks: rows with labels, dealt out by class, or by the values of a column.

    Features of a table are standardised; images and texts are not.

    Attributes:
        train, test: as `data.labelled` reads them; without `test` a fifth of `train` is held out, by seed.
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
    tasks: Count | tuple[tuple[str, ...], ...] | None = None
    by: str | None = None
    told: bool = False
    shots: Count | None = None
    blur: Share = 0.0
    times: Count = 1

    @model_validator(mode="after")
    def _one_way(self) -> StreamFile:
        if (self.tasks is None) == (self.by is None):
            raise ValueError("a stream says `tasks` or `by`, one of them")
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
        raise refused(error, path) from None


def local_files(path: Path) -> list[Path]:
    """The files on this machine that a recipe's grounds are made of."""
    found = []
    for ground in read_bench(path).grounds.values():
        streams = [stream for stream in (ground.judged, ground.tuning) if stream is not None]
        named = [_local(path.parent, source) for stream in streams for source in (stream.train, stream.test) if source]
        for each in map(Path, [*named, *filter(None, [ground.network.transformers])]):
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
    judged, tuning = said.judged, said.tuning
    training = Training(steps=1, batch=said.batch, lr=said.lr, optimizer=said.optimizer, clip=None, explode=1e9)
    says = f"{judged.train}: {_tasks(judged)}, {said.epochs:g} epochs"
    return Ground(
        says,
        lambda seed: _stream(home, judged, said.network, seed),
        None if tuning is None else lambda seed: _stream(home, tuning, said.network, seed),
        lambda tasks, seed: _network(said.network, tasks, seed),
        training,
        said.epochs,
        said.memory,
    )


def _tasks(said: StreamFile) -> str:
    count = said.tasks if isinstance(said.tasks, int) else len(said.tasks or ())
    what = f"{count} tasks" if said.by is None else f"a task for each {said.by}"
    return what + (", told" if said.told else "")


def _stream(home: Path, said: StreamFile, network: NetworkFile, seed: int) -> Scenario:
    train, test = _rows(home, said, network)
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
        tasks = split_classes(learned, asked, said.tasks, order=seed, told=said.told)
    else:
        numbers = {name: i for i, name in enumerate(train.classes)}
        if unknown := next((c for group in said.tasks or () for c in group if c not in numbers), None):
            raise RegraftError(f"no row has the label {unknown!r}; there are {list(numbers)[:8]}", where=said.train)
        dealt = [[numbers[c] for c in group] for group in said.tasks or ()]
        tasks = split_classes(learned, asked, dealt, told=said.told)
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
    """Tables with features of mean 0 and variance 1 on the first task, all that is known when the stream begins; images
    and texts as they are."""
    first = tasks.tasks[0].train["x"]
    if first.dim() != 2 or not first.is_floating_point():
        return tasks
    mean, deviation = first.mean(0), first.std(0, correction=0).clamp(min=1e-6)

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
        )
        _check_inputs(found.rows["x"], network, source)
        return found

    train = read(said.train, None)
    return train, None if said.test is None else read(said.test, train.classes)


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
