"""Streams that take a moment, and the networks that learn them: every strategy can act in one of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task, split_classes
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.models.classifier import Classifier
from regraft.numerics import fields
from regraft.recipes.resolve import modules
from regraft.recipes.strategy import Lived, Method, Strategy, live, method_named
from regraft.worlds import llama, texts, transformers

CLASSES, SIDE = 6, 6
METHODS = sorted(modules("strategies"))
TRAINING = Training(steps=1, batch=5, lr=0.05, optimizer="SGD", clip=1.0, log_every=1, explode=1e9)
"""Clipped, for plain SGD blows up what is low in rank; and the mean loss of five rows may jump."""


class World(NamedTuple):
    """A stream and the network that learns it."""

    scenario: Scenario
    network: Callable[[], Any]
    training: Training = TRAINING


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


def without_statistics() -> Classifier:
    torch.manual_seed(1)
    body = [nn.Unflatten(1, (1, SIDE, SIDE)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return Classifier(nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, CLASSES)))


def binary() -> Classifier:
    return Classifier(fields.perceptron(SIDE * SIDE, 12, CLASSES, seed=1))


def transformer() -> Classifier:
    return transformers.vision(CLASSES, seed=1, side=SIDE, width=8, depth=1)


@cache
def _bytes() -> Any:
    return llama.bpe([], 0)


def language_model() -> CausalLM:
    return llama.llama(_bytes(), width=8, depth=1, heads=2, context=8, seed=1)


def classes(count: int = 66, **knobs: Any) -> Scenario:
    return split_classes(images(count, 0), images(24, 1), 3, **knobs)


def domains() -> Scenario:
    """Texts of three alphabets."""
    dice, tasks = random.Random(0), []
    for letters in ("abc ", "def ", "ghi "):
        train, test = (texts.blocks(["".join(dice.choices(letters, k=size))], _bytes(), 8) for size in (180, 60))
        tasks.append(Task.of(letters, train, test))
    return Scenario("domains", tuple(tasks), better="lower")


WORLDS = {
    "classes": World(classes(), perceptron),
    "told": World(classes(told=True), perceptron),
    "convolutions": World(classes(told=True), convolutional),
    "binary": World(classes(), binary),
    "transformer": World(classes(), transformer),
    "told transformer": World(classes(told=True), transformer),
    "without statistics": World(classes(told=True), without_statistics),
    "told binary": World(classes(told=True), binary),
    "text": World(domains(), language_model, replace(TRAINING, lr=0.02, optimizer="AdamW")),
}
"""A strategy is tested in the first world that it can act in."""


class Went(NamedTuple):
    """The weights in the end, what became of the stream, and how many steps were made."""

    weights: dict[str, Tensor]
    lived: Lived
    steps: int


class Steps:
    count = 0

    def add(self, *, rows: int, tokens: int, updates: int) -> None:
        self.count += updates


def lived(strategy: Strategy, world: World, *, one_step: bool = False, **kw: Any) -> Went:
    """Two passes over each task, and no fewer than two steps; or one step alone."""
    model, steps = world.network(), Steps()
    counts = [task.train.count for task in world.scenario.tasks]
    epochs = world.training.batch / max(counts) if one_step else max(2, 2 * world.training.batch / min(counts))
    found = live(model, world.scenario, strategy, world.training, epochs=epochs, meter=steps, **kw)
    return Went({name: tensor.clone() for name, tensor in model.state().items()}, found, steps.count)


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


def apart(a: Went, b: Went) -> bool:
    """Whether they end in weights that differ by more than rounding."""
    return any(not torch.allclose(tensor, b.weights[name], rtol=1e-6, atol=1e-7) for name, tensor in a.weights.items())


def same(a: Any, b: Any) -> bool:
    """Bit for bit, all the way down."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
