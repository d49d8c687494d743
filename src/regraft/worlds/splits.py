"""Digits as a stream of tasks, learned by a perceptron with one head: where continual learning is measured.

    classes    0 and 1, then 2 and 3, ... (class-incremental); `told`: the same, and tests say of which pair they are
    inputs     all ten digits again and again, their pixels in another order each time (domain-incremental)

The settings of methods are chosen on the same streams of another data set, documents of ten topics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from regraft.core.plan import Feed, Plan
from regraft.data.scenario import Scenario, domains, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.tables import Split, data_set, perceptron, topics

Stream: TypeAlias = Literal["classes", "told", "inputs"]
TASKS, MEMORY, BATCH, EPOCHS, LR, HIDDEN = 5, 200, 32, 20, 0.05, (256, 256)


def scenario(stream: Stream, seed: int, *, tuning: bool = False) -> Scenario:
    """A stream of digits; of topics, to choose settings on."""
    return stream_of(topics(seed) if tuning else data_set("digits", seed), stream, seed)


def stream_of(rows: Split, stream: Stream, seed: int) -> Scenario:
    """A stream of any rows; `seed` is of the orders of inputs."""
    if stream != "inputs":
        return split_classes(rows.train, rows.held, TASKS, told=stream == "told", name=stream)
    dice, width = torch.Generator().manual_seed(seed), rows.train["x"].shape[1]
    orders = [torch.arange(width), *(torch.randperm(width, generator=dice) for _ in range(TASKS - 1))]
    return domains(rows.train, rows.held, [partial(_reordered, order=order) for order in orders], name=stream)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    return x[:, order]


def memory(beside: float = 1.0, **knobs: object) -> Plan:
    """As many rows of memory as new ones in every step."""
    return Plan(feeds=(Feed("memory", reservoir(**{"size": MEMORY, **knobs}), beside=beside),))  # type: ignore[arg-type]


def convolutional(classes: int, *, seed: int, channels: tuple[int, int] = (16, 32)) -> Classifier:
    """Images of 8 x 8, given as 64 numbers: two convolutions with batch normalisation, 2 x 2 averages, a head."""
    a, b = channels
    with seeded(seed):
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        layers += [nn.Conv2d(1, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU()]
        layers += [nn.Conv2d(a, b, 3, padding=1, stride=2), nn.BatchNorm2d(b), nn.ReLU()]
        return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * b, classes)))


Network: TypeAlias = Callable[[Scenario, int], Classifier]


def one_head(tasks: Scenario, seed: int) -> Classifier:
    """The perceptron that learns a stream."""
    return perceptron(tasks.tasks[0].train["x"].shape[1], *HIDDEN, tasks.classes, seed=seed)


def lived(
    strategy: Strategy,
    meter: Meter | None,
    seed: int,
    stream: Stream | Scenario = "classes",
    *,
    network: Network = one_head,
    epochs: float = EPOCHS,
    batch: int = BATCH,
    lr: float = LR,
    tuning: bool = False,
) -> dict[str, float]:
    """Accuracy over all tasks after the last, and forgetting (0 of one task), both in [0, 1].

    Args:
        stream: one of the streams above, or any other.
        network: makes the network of a stream and a seed; none: the perceptron.
    """
    tasks = stream if isinstance(stream, Scenario) else scenario(stream, seed, tuning=tuning)
    training = Training(steps=1, batch=batch, lr=lr, optimizer="SGD", clip=None, seed=seed, explode=1e9)
    with one_thread():
        found = live(network(tasks, seed), tasks, strategy, training, epochs=epochs, meter=meter).measures()
    return {"accuracy": found["average"], "forgetting": found.get("forgetting", 0.0)}
