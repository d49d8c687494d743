"""How accurate methods are that Avalanche has too, ours and theirs, on the same stream, network, epochs and memory.

    python -m benchmarks.avalanche_accuracy        writes docs/accuracy-avalanche.md

It needs avalanche-lib 0.6, which regraft itself never imports. Nothing is tuned on either side.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.avalanche import network
from regraft.data.scenario import Scenario
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.recipes.strategy import live, method_named
from regraft.worlds.splits import BATCH, EPOCHS, LR, MEMORY, TASKS, scenario

PAGE = Path(__file__).parents[1] / "docs" / "accuracy-avalanche.md"
SEEDS = range(10)
T = 2.262  # 95%, two-sided, 9 degrees of freedom
BEST = "der_pp"
"""Whose time at Avalanche is 1."""
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "der_pp": ("DER", {"mem_size": MEMORY, "batch_size_mem": BATCH}),
    "er": ("Replay", {"mem_size": MEMORY}),
    "er_ace": ("ER_ACE", {"mem_size": MEMORY, "batch_size_mem": BATCH}),
    "cumulative": ("Cumulative", {}),
    "der_pp+gradient_episodic_memory": ("", {}),
}
SHORTER = 12
"""Epochs of the sum of two, each of which keeps half of the rows: about the time of their best, 1.06× when measured."""
HEAD = f"""# Accuracy beside Avalanche

Written by `python -m benchmarks.avalanche_accuracy`. Digits in {TASKS} × 2 classes, one head, the same perceptron
(64-256-256-10), SGD at {LR}, {EPOCHS} epochs of batches of {BATCH}, a memory of {MEMORY} rows; nothing is tuned on
either side. Percent after the last task, and forgetting: mean and half the 95% interval over {len(SEEDS)} seeds. Time:
seconds of the processor, as multiples of those of Avalanche's DER++, without what either takes to judge. The sum of two
keeps {MEMORY // 2} rows for each and learns {SHORTER} epochs.

| ours | accuracy | forgetting | time | Avalanche {{avalanche}} | accuracy | forgetting | time |
|---|---|---|---|---|---|---|---|
"""


class Run(NamedTuple):
    accuracy: float
    forgetting: float
    seconds: float


def ours(name: str, seed: int) -> Run:
    method, both = method_named(name), "+" in name
    knobs = {"memory": MEMORY // 2 if both else MEMORY} if "memory" in method.defaults else {}
    training = Training(steps=1, batch=BATCH, lr=LR, optimizer="SGD", clip=None, explode=1e9, seed=seed)
    model, tasks = _network(seed), scenario("classes", seed)
    began = time.process_time()
    said = live(model, tasks, method(**knobs), training, epochs=SHORTER if both else EPOCHS).measures()
    return Run(100 * said["average"], 100 * said["forgetting"], time.process_time() - began)


def theirs(name: str, knobs: dict[str, Any], seed: int) -> Run:
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_tensor_classification_dataset
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    tasks = scenario("classes", seed)
    x, y = (torch.cat([task.train[column] for task in tasks.tasks]) for column in ("x", "y"))
    rows = _make_taskaware_tensor_classification_dataset(x, y, target_transform=int)
    order = [int(c) for task in tasks.tasks for c in task.classes]
    stream = nc_benchmark(rows, rows, TASKS, task_labels=False, fixed_class_order=order).train_stream
    model = _network(seed).module
    strategy = getattr(supervised, name)(
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=LR),
        train_mb_size=BATCH,
        train_epochs=EPOCHS,
        evaluator=EvaluationPlugin(),
        **knobs,
    )
    torch.manual_seed(seed)
    found, seconds = [], 0.0
    for experience in stream:
        began = time.process_time()
        strategy.train(experience)
        seconds += time.process_time() - began
        found.append(_accuracies(model, tasks))
    after = np.array(found)
    lost = [after[i:, i].max() - after[-1, i] for i in range(TASKS - 1)]
    return Run(100 * float(after[-1].mean()), 100 * float(np.mean(lost)), seconds)


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


def _cells(runs: Sequence[Run], unit: float) -> list[str]:
    def spread(values: Sequence[float]) -> str:
        return f"{statistics.fmean(values):.1f} ± {T * statistics.stdev(values) / len(values) ** 0.5:.1f}"

    accuracy, forgetting, seconds = zip(*runs, strict=True)
    return [spread(accuracy), spread(forgetting), f"{statistics.median(seconds) / unit:.2f}×"]


def main() -> None:
    import avalanche

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    made = {name: [ours(name, seed) for seed in SEEDS] for name in MADE}
    its = {name: [theirs(their, knobs, seed) for seed in SEEDS] for name, (their, knobs) in MADE.items() if their}
    unit = statistics.median(run.seconds for run in its[BEST])
    lines = []
    for name, (their_name, _) in MADE.items():
        right = [f"`{their_name}`", *_cells(its[name], unit)] if their_name else [""] * 4
        lines.append(f"| {' | '.join([f'`{name}`', *_cells(made[name], unit), *right])} |")
    PAGE.write_text(HEAD.format(avalanche=avalanche.__version__) + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
