"""Each method that Avalanche has too, against its version there: a whole stream of digits, learned by both in turns.

    python -m benchmarks.avalanche        writes docs/benchmarks-avalanche.md

It needs avalanche-lib 0.6 (and quadprog, for its GEM), which regraft itself never imports. Both train the same network
on the same five tasks, with as many epochs, rows a batch and rows of memory; ours is also judged after every task.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pairs import Ratio, interleaved, ratio
from regraft.data.scenario import Scenario
from regraft.engine.training import Training
from regraft.recipes.strategy import live, method_named
from regraft.worlds.splits import MEMORY, TASKS, scenario

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-avalanche.md"
HEAD = """# Against Avalanche

Written by `python -m benchmarks.avalanche`. Seconds of a whole stream by our method over those of Avalanche's
({avalanche}): five tasks of digits, {epochs} epochs each, batches of {batch}, a memory of {memory} rows, the same
perceptron; ours is also judged after every task. The two took turns in one run: the median of the rounds, and the
middle half of them. Below 1 we are faster. torch {torch}, Python {python}, 1 thread. Left out: its BiC, which raises an
error with this torch; its JointTraining, which trains once where ours begins anew after every task; and its L2P, which
needs a network of timm.

| what | against | ours / theirs | middle half | wanted |
|---|---|---|---|---|
"""
BATCH, EPOCHS, LR = 32, 5, 0.05
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "naive": ("Naive", {}),
    "cumulative": ("Cumulative", {}),
    "er": ("Replay", {"mem_size": MEMORY}),
    "der_pp": ("DER", {"mem_size": MEMORY, "batch_size_mem": BATCH}),
    "er_ace": ("ER_ACE", {"mem_size": MEMORY, "batch_size_mem": BATCH}),
    "er_mir": ("MIR", {"mem_size": MEMORY, "batch_size_mem": BATCH, "subsample": 50}),
    "gdumb": ("GDumb", {"mem_size": MEMORY}),
    "icarl": ("ICaRL", {"memory_size": MEMORY, "buffer_transform": None, "fixed_memory": True}),
    "gradient_episodic_memory": ("GEM", {"patterns_per_exp": MEMORY // TASKS}),
    "a_gem": ("AGEM", {"patterns_per_exp": MEMORY // TASKS, "sample_size": BATCH}),
    "online_ewc": ("EWC", {"ewc_lambda": 1.0, "mode": "online", "decay_factor": 0.9}),
    "synaptic_intelligence": ("SynapticIntelligence", {"si_lambda": 0.1}),
    "memory_aware_synapses": ("MAS", {"lambda_reg": 0.1}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
}
"""Our name, theirs, and what theirs is told; where it is silent, both are as their libraries have them."""
COMPOSED: dict[str, tuple[str, dict[str, Any]]] = {"der_exemplars": MADE["der_pp"]}
"""What only we have, and the best of theirs."""


def network(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def their_strategy(name: str, knobs: dict[str, Any], model: nn.Sequential, lr: float, epochs: int) -> Any:
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    if name == "ICaRL":
        nets: dict[str, Any] = {"feature_extractor": model[:-1], "classifier": model[-1]}
    else:
        nets = {"model": model, "criterion": nn.CrossEntropyLoss()}
    return getattr(supervised, name)(
        **nets,
        **knobs,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        train_mb_size=BATCH,
        train_epochs=epochs,
        evaluator=EvaluationPlugin(),
    )


def theirs(name: str, knobs: dict[str, Any], stream: Any) -> Callable[[], object]:
    def run() -> None:
        strategy = their_strategy(name, knobs, network(64), LR, EPOCHS)
        for experience in stream:
            strategy.train(experience)

    return run


def ours(name: str) -> Callable[[], object]:
    from regraft.models.classifier import Classifier

    tasks, method = scenario("classes", 0), method_named(name)
    knobs = {"memory": MEMORY} if "memory" in method.defaults else {}
    training = Training(steps=1, batch=BATCH, lr=LR, optimizer="SGD", clip=None, explode=1e9)
    return lambda: live(Classifier(network(64)), tasks, method(**knobs), training, epochs=EPOCHS)


def their_stream(tasks: Scenario, noise: float = 0.0) -> Any:
    """The tasks as theirs; `noise` is added to rows whenever they are learned from, and not when they are asked."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_tensor_classification_dataset

    def noisy(row: Tensor) -> Tensor:
        return row + noise * torch.randn_like(row)

    x, y = (torch.cat([task.train[column] for task in tasks.tasks]) for column in ("x", "y"))
    views = {"transform_groups": {"train": (noisy, int), "eval": (None, int)}} if noise else {"target_transform": int}
    rows = _make_taskaware_tensor_classification_dataset(x, y, **views)
    order = [int(c) for task in tasks.tasks for c in task.classes]
    return nc_benchmark(rows, rows, TASKS, task_labels=False, fixed_class_order=order).train_stream


def against(rounds: int = 5) -> list[Ratio]:
    """Seconds of a stream by our method over theirs."""
    stream, found = their_stream(scenario("classes", 0)), []
    for name, (their_name, knobs) in (MADE | COMPOSED).items():
        seconds = interleaved({"ours": ours(name), "theirs": theirs(their_name, knobs, stream)}, rounds)
        found.append(ratio(f"`{name}`", seconds["ours"], seconds["theirs"], f"`{their_name}`", 1.0))
    return found


def main() -> None:
    import avalanche

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    head = HEAD.format(
        avalanche=avalanche.__version__,
        epochs=EPOCHS,
        batch=BATCH,
        memory=MEMORY,
        torch=torch.__version__,
        python=platform.python_version(),
    )
    PAGE.write_text(head + "\n".join(r.row for r in against()) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
