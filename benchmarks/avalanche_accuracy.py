"""How accurate methods are that Avalanche has too, and what composition of ours is better than its best.

    python -m benchmarks.avalanche_accuracy        writes docs/accuracy-avalanche.md

It needs avalanche-lib 0.6 (and quadprog, for its GEM), which regraft itself never imports. Both learn the same streams
from the same first weights.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from benchmarks.avalanche import MADE, network, their_strategy, their_stream
from regraft.data.scenario import Scenario
from regraft.engine.training import Training
from regraft.evidence.claims import Meter
from regraft.models.classifier import Classifier
from regraft.parts.metrics.ability_matrix import AbilityMatrix
from regraft.recipes.strategy import live, method_named
from regraft.worlds.splits import BATCH, EPOCHS, LR, MEMORY, TASKS, scenario

PAGE = Path(__file__).parents[1] / "docs" / "accuracy-avalanche.md"
SEEDS, JUDGED = range(5), range(20)
DER = {"mem_size": MEMORY, "batch_size_mem": BATCH}
NOISE = 0.5


class Run(NamedTuple):
    """Percent after the last task, and rows that were read for a gradient."""

    accuracy: float
    forgetting: float
    rows: int


@dataclass(frozen=True)
class Contestant:
    """A method with its settings; `lr`: a factor on the rate, `noise`: of their rows, ours has it among its knobs."""

    name: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1.0
    noise: float = 0.0


def ours(it: Contestant, seed: int) -> Run:
    method, meter = method_named(it.name), Meter()
    knobs = {"memory": MEMORY, **it.knobs} if "memory" in method.defaults else it.knobs
    training = Training(steps=1, batch=BATCH, lr=it.lr * LR, optimizer="SGD", clip=None, explode=1e9, seed=seed)
    tasks = scenario("classes", seed)
    said = live(_network(seed), tasks, method(**knobs), training, epochs=EPOCHS, meter=meter).measures()
    return Run(100 * said["average"], 100 * said["forgetting"], meter.rows)


def theirs(it: Contestant, seed: int) -> Run:
    tasks, model = scenario("classes", seed), _network(seed).module
    strategy = their_strategy(it.name, dict(it.knobs), model, it.lr * LR, EPOCHS)
    torch.manual_seed(seed)
    found, rows = [_accuracies(model, tasks)], 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0]) if torch.is_grad_enabled() and layer.training else 0

    model[0].register_forward_pre_hook(count)
    for experience in their_stream(tasks, it.noise):
        strategy.train(experience)
        found.append(_accuracies(strategy.model, tasks))
    said = AbilityMatrix(np.array(found), (None, *range(TASKS)), better="higher").measures()
    return Run(100 * said["average"], 100 * said["forgetting"], rows)


def _network(seed: int) -> Classifier:
    model = network(64)
    torch.manual_seed(seed)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    return Classifier(model)


@torch.no_grad()
def _accuracies(model: nn.Module, tasks: Scenario) -> list[float]:
    model.eval()
    said = [float((model(t.test["x"]).argmax(1) == t.test["y"]).double().mean()) for t in tasks.tasks]
    model.train()
    return said


def _mean(values: Sequence[float], sign: str = "") -> str:
    """The mean, and half of its 95% interval."""
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):{sign}.1f} ± {half:.1f}"


def _cells(runs: Sequence[Run]) -> list[str]:
    return [_mean([run.accuracy for run in runs]), _mean([run.forgetting for run in runs])]


def _apart(mine: Sequence[Run], its: Sequence[Run]) -> str:
    return _mean([a.accuracy - b.accuracy for a, b in zip(mine, its, strict=True)], "+")


def beside() -> list[str]:
    """A row a method that both have."""
    lines = []
    for name, (their_name, knobs) in MADE.items():
        mine = [ours(Contestant(name), seed) for seed in SEEDS]
        its = [theirs(Contestant(their_name, knobs), seed) for seed in SEEDS]
        cells = [f"`{name}`", *_cells(mine), f"`{their_name}`", *_cells(its), _apart(mine, its)]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def best() -> list[str]:
    """A row a contestant for the best composition, and how far the first is ahead of it."""
    lines, first = [], list[Run]()
    for says, (side, it) in BEST.items():
        runs = [side(it, seed) for seed in JUDGED]
        first = first or runs
        rows = f"{statistics.fmean(run.rows for run in runs):,.0f}"
        cells = [says, f"{it.lr * LR:g}", *_cells(runs), rows, "" if runs is first else _apart(first, runs)]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


BEST: dict[str, tuple[Callable[[Contestant, int], Run], Contestant]] = {
    "`der_exemplars`": (ours, Contestant("der_exemplars", {"noise": NOISE}, lr=3)),
    "our `der_pp`": (ours, Contestant("der_pp")),
    "their `DER`, 48 settings": (theirs, Contestant("DER", {**DER, "alpha": 0.3, "beta": 0.5}, lr=3)),
    "the same, their rows as noisy": (theirs, Contestant("DER", {**DER, "alpha": 0.3, "beta": 0.5}, 3, NOISE)),
    "their `DER` as it is": (theirs, Contestant("DER", DER)),
}
"""The composition first; then what it is held against. What was chosen was chosen on letters."""

HEAD = f"""# Accuracy beside Avalanche

Written by `python -m benchmarks.avalanche_accuracy`. Digits in {TASKS} × 2 classes, one head, the same perceptron
(64-256-256-10) from the same first weights, SGD at {LR}, {EPOCHS} epochs of batches of {BATCH}, a memory of {MEMORY}
rows; ours against Avalanche {{avalanche}}. Percent after the last task, and forgetting: the mean, and half of its 95%
interval; what lies between two is of pairs, on the same streams.

## A composition against their best

Both chose their settings on letters, which nobody is judged on: theirs among 48 (alpha, beta, rate), ours among about
30, the parts of the composition included. {len(JUDGED)} seeds. Rows: those read for a gradient, in a whole stream.

| | rate | accuracy | forgetting | rows | `der_exemplars` is ahead by |
|---|---|---|---|---|---|
{{best}}

## Every method that both have

As they are, nothing tuned. {len(SEEDS)} seeds.

| ours | accuracy | forgetting | theirs | accuracy | forgetting | ours is ahead by |
|---|---|---|---|---|---|---|
{{beside}}
"""


def main() -> None:
    import avalanche

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    said = HEAD.format(avalanche=avalanche.__version__, beside="\n".join(beside()), best="\n".join(best()))
    PAGE.write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
