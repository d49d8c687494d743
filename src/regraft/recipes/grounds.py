"""Grounds of one's own data, from a recipe file of `regraft bench continual`.

methods: [er, der_pp, mine.py]
grounds:
  products:
    judged: {train: may.csv, test: june.csv, label: category, tasks: 5}
    tuning: {train: toys.csv, label: category, tasks: 5}       # none: methods are judged at their defaults
    network: {perceptron: [256, 256]}
    epochs: 20

Those of text for a language model are in `text_grounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.labelled import Labelled, labelled
from regraft.data.scenario import Scenario, Task, few_shot, split_classes
from regraft.engine.training import Training
from regraft.models.backbones import of_timm, pretrained, tokenizer_of
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.numerics.mixture import places_by
from regraft.recipes.comparison import Ground
from regraft.recipes.course import HELD_OUT, Count, Course, Positive, check_streams, counted
from regraft.recipes.files import Said, beside, read_mapping, told
from regraft.recipes.resolve import refused
from regraft.recipes.text_grounds import TextGroundFile, is_text

Model = TypeVar("Model", bound=BaseModel)

Label = Annotated[str, BeforeValidator(lambda said: str(said) if isinstance(said, int | float) else said)]
MOST_NAMED = 8


def _tasks_or_lists(said: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One error in place of one for each that `tasks` could be."""
    try:
        return check(said)
    except ValidationError:
        raise ValueError(f"must be a number of tasks or a list of lists of labels, not {said!r}") from None


class StreamFile(Course):
    """A stream of tasks: rows with labels, dealt out by class, or by the values of a column.

    Features of a table are standardised; images and texts are not. Columns of `train` and `test` meet by their names.

    Attributes:
        train, test: as `data.labelled` reads them; without `test` a fifth of `train` is held out, by seed.
        columns: the columns of numbers that are read; none: all of them.
        tasks: how many of equally many classes, dealt out by seed; or the labels of each.
        by: a column whose values are the tasks, ascending, in place of `tasks`.
        told: rows say of which task they are.
        shots: rows of each class after the first task.
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

    @model_validator(mode="after")
    def _one_way(self) -> StreamFile:
        if (self.tasks is None) == (self.by is None):
            raise ValueError("a stream says `tasks` or `by`, one of them")
        if self.text is not None and self.columns is not None:
            raise ValueError("a stream reads `text` or `columns`, one of them")
        if self.columns == ():
            raise ValueError("`columns` names no column")
        return self


class NetworkFile(Said):
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


class GroundFile(Said):
    """One ground. `lr`, `batch` and `optimizer` are those of plain training; tuning varies the learning rate.

    Attributes:
        epochs: none: 10, and 1 for a stream without boundaries.
    """

    judged: StreamFile
    tuning: StreamFile | None = None
    network: NetworkFile = NetworkFile(perceptron=(256, 256))
    memory: Count = 200
    epochs: Positive | None = None
    batch: Count = 32
    lr: Positive = 0.05
    optimizer: Literal["SGD", "AdamW"] = "SGD"

    @model_validator(mode="after")
    def _apart(self) -> GroundFile:
        check_streams(self.judged, self.tuning, self.epochs)
        return self

    @property
    def passes(self) -> float:
        """Epochs, as they were said or are usual."""
        return self.epochs or (10.0 if self.judged.boundaries else 1.0)

    @property
    def sources(self) -> list[str]:
        """Every file that is named."""
        streams = [stream for stream in (self.judged, self.tuning) if stream is not None]
        named = [source for stream in streams for source in (stream.train, stream.test)]
        return [source for source in (*named, self.network.transformers) if source is not None]


class _Grounds(Said):
    """What is to be said of grounds of rows with labels."""

    bench: Literal["continual"] = "continual"
    methods: tuple[str, ...] = ()
    grounds: dict[str, GroundFile]


class _TextGrounds(Said):
    """And of grounds of text, beside those."""

    grounds: dict[str, TextGroundFile]


@dataclass(frozen=True)
class BenchFile:
    """A recipe of `bench continual`."""

    methods: tuple[str, ...]
    grounds: Mapping[str, GroundFile | TextGroundFile]


def read_bench(path: Path) -> BenchFile:
    """Raises RegraftError for a file that is not such a recipe, and says where."""
    said = read_mapping(path)
    named = said["grounds"] if isinstance(said.get("grounds"), dict) else {}
    texts = {name: ground for name, ground in named.items() if is_text(ground)}
    others = {**said, "grounds": {k: v for k, v in named.items() if k not in texts}} if named else said
    rows, of_text = _valid(_Grounds, others, path), _valid(_TextGrounds, {"grounds": texts}, path)
    if not named:
        raise RegraftError("`grounds` names no ground", where=path, do="Name one, with its stream: `judged`")
    found: dict[str, GroundFile | TextGroundFile] = {**rows.grounds, **of_text.grounds}
    return BenchFile(rows.methods, {name: found[name] for name in named})


def _valid(model: type[Model], said: Any, path: Path) -> Model:
    try:
        return model.model_validate(said)
    except ValidationError as error:
        raise refused(error, path, model) from None


def local_files(path: Path) -> list[Path]:
    """The files on this machine that a recipe's grounds are made of."""
    found = []
    for ground in read_bench(path).grounds.values():
        for each in (Path(beside(path.parent, source)) for source in ground.sources):
            found += sorted(file for file in each.rglob("*") if file.is_file()) if each.is_dir() else [each]
    return [file for file in dict.fromkeys(found) if file.is_file()]


def ground_of(path: Path, name: str) -> Ground:
    """The ground of that name in a recipe file. Data are read once a process."""
    said = read_bench(path).grounds[name]
    assert isinstance(said, GroundFile), "texts have a ground of their own"
    home = path.parent
    network = said.network
    if network.transformers is not None:
        network = network.model_copy(update={"transformers": beside(home, network.transformers)})
    training = Training(steps=1, batch=said.batch, lr=said.lr, optimizer=said.optimizer, clip=None, explode=1e9)
    streams = (said.judged, said.tuning)
    reads = list(dict.fromkeys(_reads(_rows(home, each, network)[0]) for each in streams if each is not None))
    columns = "; ".join(f"{'to tune on, ' if i else ''}{what}" for i, what in enumerate(reads) if what)
    says = (
        f"{said.judged.train}: {_tasks(said.judged)}, {counted(said.passes, 'epoch')}{'; ' if columns else ''}{columns}"
    )

    def stream(each: StreamFile, key: str) -> Callable[[int], Scenario]:
        return lambda seed: _stream(home, each, network, seed, f"{path}, ground {name!r}, {key}")

    return Ground(
        says,
        stream(said.judged, "judged"),
        None if said.tuning is None else stream(said.tuning, "tuning"),
        lambda tasks, seed: _network(network, tasks, seed),
        training,
        said.passes,
        said.memory,
        "" if said.tuning is None else f"{said.tuning.train}: {_tasks(said.tuning)}",
    )


def _tasks(said: StreamFile) -> str:
    count = said.tasks if isinstance(said.tasks, int) else len(said.tasks or ())
    what = [counted(count, "task") if said.by is None else f"a task for each {said.by}"]
    what += ["told"] * said.told
    what += [] if said.shots is None else [f"{counted(said.shots, 'row')} of each class after the first task"]
    return ", ".join(what + said.says())


def _reads(rows: Labelled) -> str:
    """Which columns of a table are read, and which are not; empty for what is no table."""
    if not rows.read or not (rows.unread or rows.rows["x"].dim() == 2):
        return ""
    what = f"{counted(len(rows.read), 'column')} read ({_named(rows.read)})"
    return what + (f", not {', '.join(rows.unread)}" if rows.unread else "")


def _named(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    return ", ".join(columns[:MOST_NAMED]) + more


def _stream(home: Path, said: StreamFile, network: NetworkFile, seed: int, where: str) -> Scenario:
    """The tasks of a stream; `where` the recipe says it, for the error."""
    train, test = _rows(home, said, network)
    with told(where):
        return _dealt(said, train, test, seed)


def _dealt(said: StreamFile, train: Labelled, test: Labelled | None, seed: int) -> Scenario:
    if test is None:
        order = torch.randperm(train.rows.count, generator=torch.Generator().manual_seed(seed))
        held = round(HELD_OUT * train.rows.count)
        places = order[held:] if said.boundaries else order[held:].sort().values, order[:held]
        learned, asked = (train.rows.take(at) for at in places)
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
    return _standardised(said.of(tasks, seed))


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
            beside(home, source),
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
