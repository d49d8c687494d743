"""Streams that take a moment, and the networks that learn them: every strategy can act in one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics import fields
from regraft.recipes.resolve import modules
from regraft.recipes.strategy import Lived, Method, Strategy, live, method_named
from regraft.worlds import transformers

CLASSES, SIDE = 6, 6
METHODS = sorted(modules("strategies"))
TRAINING = Training(steps=1, batch=5, lr=0.05, optimizer="SGD", clip=None, log_every=1)


class World(NamedTuple):
    """A stream and the network that learns it."""

    scenario: Scenario
    network: Callable[[], Any]


def images(count: int, seed: int) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % CLASSES
    centre = torch.randn(CLASSES, SIDE * SIDE, generator=torch.Generator().manual_seed(9))
    return Rows({"x": centre[y] + torch.randn(count, SIDE * SIDE, generator=dice), "y": y})


def perceptron() -> Classifier:
    torch.manual_seed(1)
    return Classifier(
        nn.Sequential(nn.Linear(SIDE * SIDE, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    )


def convolutional() -> Classifier:
    torch.manual_seed(1)
    body = [nn.Unflatten(1, (1, SIDE, SIDE)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return Classifier(nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)))


def binary() -> Classifier:
    return Classifier(fields.perceptron(SIDE * SIDE, 12, CLASSES, seed=1))


def transformer() -> Classifier:
    return transformers.vision(CLASSES, seed=1, side=SIDE, width=8, depth=1)


def classes(count: int = 66, **knobs: Any) -> Scenario:
    return split_classes(images(count, 0), images(24, 1), 3, **knobs)


WORLDS = {
    "classes": World(classes(), perceptron),
    "told": World(classes(told=True), perceptron),
    "convolutions": World(classes(told=True), convolutional),
    "binary": World(classes(), binary),
    "transformer": World(classes(), transformer),
}
"""A strategy is tested in the first world that it can act in."""


class Went(NamedTuple):
    """The weights in the end, and what became of the stream."""

    weights: dict[str, Tensor]
    lived: Lived


def lived(strategy: Strategy, world: World, **kw: Any) -> Went:
    """The weights and what became of the stream; two passes over each task, and no fewer than two steps."""
    model = world.network()
    least = min(task.train.count for task in world.scenario.tasks)
    found = live(model, world.scenario, strategy, TRAINING, epochs=max(2, 2 * TRAINING.batch / least), **kw)
    return Went({name: tensor.clone() for name, tensor in model.state().items()}, found)


def home(name: str) -> World:
    """The world that a strategy is tested in."""
    refused = []
    for world in WORLDS.values():
        try:
            lived(small(method_named(name)), world)
            return world
        except RegraftError as error:
            refused.append(str(error))
    raise AssertionError(f"{name} can act nowhere: {refused}")


def small(method: Method, **knobs: Any) -> Strategy:
    """A method at the first values of its search, with a memory that is smaller than a batch."""
    first = {name: values[0] for name, values in method.tune.items()}
    return method(**{**first, **({"memory": 4} if "memory" in method.defaults else {}), **knobs})


def same(a: Any, b: Any) -> bool:
    """Bit for bit, all the way down."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
