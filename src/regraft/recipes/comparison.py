"""Methods for streams of tasks, compared: settings are chosen on one stream, methods are judged on another.

    tuning     every method tries the same number of settings on the tuning stream: its defaults, then random ones of
               its knobs and of the learning rate; the one with the best average after the last task is kept
    judging    that setting, untouched, on streams that nobody tuned on, over several seeds

Equal for all are the number of settings, the epochs of a training, and the rows that memory may hold. What a method
takes beyond that, with several trainings for a task or more to read, is shown: its updates (`steps`) and its time
(`cost`), as multiples of plain training's. A method that diverges comes last, with how often; one that cannot act says
why, and one that raises an error of Python is told with the error and its place, while the others go on.

Paper: "Hyperparameters in Continual Learning: a Reality Check" Cha and Cho 2024. https://arxiv.org/abs/2403.09066
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from regraft.core.errors import Diverged, RegraftError
from regraft.core.parts import Model
from regraft.data.scenario import Scenario
from regraft.engine.bits import one_thread
from regraft.engine.training import Training
from regraft.evidence.compared import BASELINE, Comparison, Found, Row, Setting, multiple
from regraft.recipes.strategy import Method, Strategy, live, method_named

WIDEST_LR = 3.0
"""A random setting's learning rate is the ground's, times a factor between 1 / WIDEST_LR and WIDEST_LR."""


@dataclass(frozen=True)
class Ground:
    """Where methods are compared.

    Attributes:
        judged, tuning: the streams, by seed; without one to tune on, methods are judged at their defaults.
        network: a new network for a stream and a seed.
        memory: rows that a method may keep, if it keeps any.
        tuned_on: what the streams to tune on are made of, in words.
    """

    says: str
    judged: Callable[[int], Scenario]
    tuning: Callable[[int], Scenario] | None
    network: Callable[[Scenario, int], Model]
    training: Training
    epochs: float
    memory: int
    tuned_on: str = ""


class Trial(NamedTuple):
    """One run: a method with a setting on one stream of a ground."""

    ground: str
    method: str
    judged: bool
    seed: int
    setting: Setting


class _Counter:
    updates = 0

    def add(self, *, rows: int, tokens: int, updates: int) -> None:
        self.updates += updates


def attempt(trial: Trial, ground: Ground) -> Found:
    """Runs one trial on one thread."""
    method, counter, notices = method_named(trial.method), _Counter(), list[str]()
    knobs = {"memory": ground.memory} if "memory" in method.defaults else {}
    training = replace(ground.training, lr=ground.training.lr * trial.setting.lr, seed=trial.seed)
    stream = ground.judged if trial.judged else ground.tuning
    assert stream is not None, "nothing is tuned where there is no stream for it"
    with one_thread():
        scenario = stream(trial.seed)
        model = ground.network(scenario, trial.seed)
        began = time.process_time()
        try:
            strategy = method(**{**knobs, **dict(trial.setting.knobs)})
            if not isinstance(strategy, Strategy):
                raise RegraftError(f"it returns a {type(strategy).__name__}, not a Strategy")
            how: dict[str, Any] = {"epochs": ground.epochs, "meter": counter, "on_notice": notices.append}
            lived = live(model, scenario, strategy, training, **how)
        except Diverged as error:
            return Found(better=scenario.better, failed=error.what)
        except RegraftError as error:
            return Found(refused=str(error))
        except MemoryError:
            raise
        except Exception as error:
            return Found(refused=_fault(error, trial.method))
        seconds = time.process_time() - began
    said = lived.measures()
    forgetting = said.get("forgetting", math.nan)
    kept = _size(lived.memory)
    if strategy.reads == "all":
        kept += sum(_size(dict(task.train)) for task in scenario.tasks)
    notice = "; ".join(notices)
    return Found(said["average"], forgetting, lived.better, seconds, counter.updates, kept, notice=notice)


def files_of(method: str) -> list[str]:
    """The files that a method is named by."""
    parts = [method] if Path(method).is_file() else method.split("+")
    return [part for part in parts if part.endswith(".py")]


def _fault(error: Exception, method: str) -> str:
    """An error of Python on one line, with its place in the method's own file, if it has one there."""
    files = {Path(file).resolve(): file for file in files_of(method)}
    frames = [(Path(frame.filename).resolve(), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [f"{files[file]}:{line}: " for file, line in frames if file in files]
    said = next(iter(str(error).strip().splitlines()), "")
    return f"{places[-1] if places else ''}{type(error).__name__}{f': {said}' if said else ''}"


def _size(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, Mapping):
        return sum(map(_size, tree.values()))
    return sum(map(_size, tree)) if isinstance(tree, list | tuple) else 0


def settings(method: Method, count: int) -> list[Setting]:
    """So many settings of a method; the first are its defaults, the others random."""
    dice = random.Random(method.name)
    grid = [tuple(zip(method.tune, values, strict=True)) for values in itertools.product(*method.tune.values())]
    dice.shuffle(grid)
    others = itertools.islice(itertools.cycle(grid), count - 1)
    return [Setting(), *(Setting(knobs, float(f"{WIDEST_LR ** dice.uniform(-1, 1):.3g}")) for knobs in others)]


Runner: TypeAlias = Callable[[Sequence[Trial]], Iterable[tuple[Trial, Found]]]


def compare(
    grounds: Mapping[str, Ground],
    methods: Sequence[str],
    run: Runner,
    *,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (100, 101),
    configurations: int = 6,
    hindsight: bool = False,
) -> Comparison:
    """Tunes and judges every method on every ground.

    Args:
        methods: names, or paths of Python files that define one. Plain training is always among them.
        run: does the trials, in any order; it may know some from an earlier run.
        configurations: settings that each method tries where there is a stream to tune on.
        hindsight: whether every setting is judged, not only the one that was chosen: so much better would each method
            look, had its setting been chosen on the streams that it is judged on.

    Raises RegraftError for a seed that is tuned on and judged, for no seed, for no setting, and for a ground on which
    plain training cannot act, by which all others are measured.
    """
    if both := set(seeds) & set(tuning_seeds):
        raise RegraftError(f"seeds {sorted(both)} are tuned on and judged", do="Judge on other seeds")
    if configurations < 1 or not seeds:
        raise RegraftError("there must be a setting to try and a seed to judge on")
    names = list(dict.fromkeys([BASELINE, *methods]))
    tried = {name: settings(method_named(name), configurations) for name in names}
    tuning = [
        Trial(place, name, False, seed, setting)
        for place, ground in grounds.items()
        if ground.tuning is not None
        for name in names
        for setting in tried[name]
        for seed in tuning_seeds
    ]
    tuned = _means(_measurable(run(tuning))) if configurations > 1 else {}
    kept = {
        (place, name): max(
            ((tuned.get((place, name, setting), -math.inf), setting) for setting in tried[name]),
            key=lambda found: found[0],  # the first of equals: the defaults
        )
        for place in grounds
        for name in names
    }
    judging = [
        Trial(place, name, True, seed, setting)
        for place in grounds
        for seed in seeds
        for name in names
        for setting in (tried[name] if hindsight and tuned else [kept[place, name][1]])
    ]
    found = dict(_measurable(run(judging)))
    judged = _means(found.items())
    rows: dict[str, tuple[Row, ...]] = {}
    for place in grounds:
        plain = [found[Trial(place, BASELINE, True, seed, kept[place, BASELINE][1])] for seed in seeds]
        made = []
        for name in names:
            value, setting = kept[place, name]
            its = [found[Trial(place, name, True, seed, setting)] for seed in seeds]
            reasons = [f.refused for f in its if f.refused]
            often = f" (on {len(reasons)} of {len(its)} seeds)" if len(reasons) < len(its) else ""
            refused = f"{reasons[0]}{often}" if reasons else ""
            tuned_to = abs(value) if math.isfinite(value) else None
            cost, steps = multiple(its, plain, "seconds"), multiple(its, plain, "updates")
            best = max(judged.get((place, name, each), -math.inf) for each in tried[name])
            flattered = abs(best) if hindsight and tuned and math.isfinite(best) else None
            made.append(Row(name, setting, tuned_to, tuple(its), cost, steps, refused, flattered))
        rows[place] = tuple(sorted(made, key=_rank, reverse=True))
    said = {place: ground.says for place, ground in grounds.items()}
    tuned_on = {place: ground.tuned_on for place, ground in grounds.items() if ground.tuned_on}
    return Comparison(said, rows, tuple(seeds), tuple(tuning_seeds), configurations, tuned_on)


def _measurable(found: Iterable[tuple[Trial, Found]]) -> Iterator[tuple[Trial, Found]]:
    """The same, or an error at the first plain training that cannot act."""
    for trial, outcome in found:
        if trial.method == BASELINE and outcome.refused:
            what = f"plain training, which all are measured by, cannot act: {outcome.refused}"
            raise RegraftError(what, where=f"ground {trial.ground!r}")
        yield trial, outcome


def _goodness(found: Found) -> float:
    """The average, where more is better; worst of all if it could not act, diverged or came to nothing."""
    value = found.average if found.better == "higher" else -found.average
    return value if math.isfinite(value) else -math.inf


def _means(found: Iterable[tuple[Trial, Found]]) -> dict[tuple[str, str, Setting], float]:
    """How good each setting is on the tuning streams, on average over their seeds."""
    by: dict[tuple[str, str, Setting], list[float]] = {}
    for trial, outcome in found:
        by.setdefault((trial.ground, trial.method, trial.setting), []).append(_goodness(outcome))
    return {key: statistics.fmean(values) for key, values in by.items()}


def _rank(row: Row) -> tuple[bool, int, float]:
    return not row.refused, -row.diverged, statistics.fmean(map(_goodness, row.found))
