"""Small transformers that look at drawings of 8 x 8 in 16 patches, and a stream of such drawings.

A stream has 40 curves, ten at a time; each class is one curve, drawn 60 times by a hand that trembles. A pretrained
network knows 40 others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.parts import Weights
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.tables import Split, split

SIDE, PATCH = 8, 2
CURVES, DRAWN, TASKS = 40, 60, 4
BATCH, EPOCHS, LR = 32, 20, 2e-3
ROOMS, ANSWERS = (3, 1, 1, 1), 10
OTHERS = 10_000
PRETRAINING = Training(steps=800, batch=64, lr=1e-3, log_every=800)


class Attention(nn.Module):
    """Every place reads every place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.o = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), self.k(x), self.v(x)))
        attended = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        read: Tensor = self.o(attended.transpose(1, 2).flatten(2))
        return read


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        changed: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return changed


class Transformer(nn.Module):
    """Embedded places [rows, places, width] through blocks; the head reads their mean."""

    def __init__(self, embed: nn.Module, places: int, classes: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = embed
        self.positions = nn.Parameter(torch.randn(places, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        places = self.norm(self.blocks(self.embed(x) + self.positions))
        logits: Tensor = self.head(places.mean(1))
        return logits


class Patches(nn.Module):
    """Images of side x side pixels, given as so many numbers, in squares that do not overlap."""

    def __init__(self, side: int, patch: int, width: int) -> None:
        super().__init__()
        self.side, self.patch, self.linear = side, patch, nn.Linear(patch * patch, width)

    def forward(self, x: Tensor) -> Tensor:
        squares = x.view(-1, self.side, self.side).unfold(1, self.patch, self.patch).unfold(2, self.patch, self.patch)
        embedded: Tensor = self.linear(squares.flatten(3).flatten(1, 2))
        return embedded


def vision(classes: int, *, seed: int, side: int = SIDE, width: int = 64, depth: int = 2, heads: int = 4) -> Classifier:
    """A vision transformer for images of side x side pixels, given as so many numbers."""
    with seeded(seed):
        places = (side // PATCH) ** 2
        return Classifier(
            Transformer(Patches(side, PATCH, width), places, classes, width=width, depth=depth, heads=heads)
        )


def strokes(seed: int, curves: int = CURVES) -> Split:
    """Drawings of curves, each class one curve through four points that a hand does not hit twice."""
    dice = torch.Generator().manual_seed(seed)
    y = torch.arange(curves).repeat_interleave(DRAWN)
    points = torch.rand(curves, 4, 2, generator=dice)[y] * 5 + 1 + torch.randn(len(y), 4, 2, generator=dice) * 0.35
    t = torch.linspace(0, 1, 24)[:, None]
    bernstein = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    grid = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
    near = torch.cdist(grid.expand(len(y), -1, -1), bernstein @ points).amin(-1)
    x = (-near.square()).exp()
    return split((x - x.mean(0)) / x.std(0).clamp(min=1e-6), y, seed)


def stream(seed: int, *, told: bool = False) -> Scenario:
    """Ten curves at a time; `told`: tests say of which ten they are."""
    rows = strokes(seed)
    return split_classes(rows.train, rows.held, TASKS, told=told, name="strokes")


def rooms(seed: int) -> Scenario:
    """The same ten curves in rooms whose walls look different, and in each of which they mean other answers.

    The first task has three rooms, those after it one each.
    """
    dice, curves = torch.Generator().manual_seed(seed), strokes(seed, ANSWERS)
    walls = 2 * torch.randn(sum(ROOMS), SIDE * SIDE, generator=dice)
    answers = torch.stack([torch.randperm(ANSWERS, generator=dice) for _ in walls])

    def seen(rows: Rows, room: int) -> Rows:
        return Rows({"x": rows["x"] + walls[room], "y": answers[room][rows["y"]]})

    tasks, first = [], 0
    for count in ROOMS:
        its = range(first, first + count)
        train, test = (Rows.join(seen(part, room) for room in its) for part in curves)
        tasks.append(Task.of(" ".join(map(str, its)), train, test))
        first += count
    return Scenario("rooms", tuple(tasks))


def alone(tasks: Scenario, task: int) -> Scenario:
    """One task of a stream, and nothing before or after it."""
    return Scenario(tasks.name, (tasks.tasks[task],))


def new(tasks: Scenario, seed: int) -> Classifier:
    return vision(tasks.classes, seed=seed)


def pretrained(tasks: Scenario, seed: int) -> Classifier:
    """A network that learned to tell other curves apart, with a new head."""
    model = new(tasks, seed)
    model.load({name: tensor for name, tensor in _of_others(seed).items() if not name.startswith("head.")})
    return model


def knowing(tasks: Scenario, seed: int) -> Classifier:
    """A network that has learned the first task of `rooms`."""
    model = new(tasks, seed)
    model.load(_of_the_first(seed))
    return model


@cache
def _of_others(seed: int) -> Weights:
    return _trained(strokes(seed + OTHERS).train, seed)


@cache
def _of_the_first(seed: int) -> Weights:
    return _trained(rooms(seed).tasks[0].train, seed)


def _trained(rows: Rows, seed: int) -> Weights:
    model = vision(int(rows["y"].max()) + 1, seed=seed)
    with one_thread():
        fit(model, Plan((Feed("new", shuffled()),), (Weighted(nll()),)), {"new": rows}, replace(PRETRAINING, seed=seed))
    return {name: tensor.clone() for name, tensor in model.state().items()}


def lived(
    strategy: Strategy,
    meter: Meter | None,
    seed: int,
    tasks: Scenario | None = None,
    *,
    network: Callable[[Scenario, int], Classifier] = new,
    epochs: float = EPOCHS,
    lr: float = LR,
) -> dict[str, float]:
    """Accuracy over all tasks after the last, and forgetting, both in [0, 1]; of the first task, and of later ones.

    Args:
        tasks: none: ten curves at a time, and nobody says which.
    """
    tasks = tasks or stream(seed)
    training = Training(steps=1, batch=BATCH, lr=lr, clip=None, seed=seed, explode=1e9)
    with one_thread():
        found = live(network(tasks, seed), tasks, strategy, training, epochs=epochs, meter=meter)
    first, *later = found.scores[-1].tolist()
    measures = found.measures()
    scores = {"accuracy": measures["average"], "forgetting": measures.get("forgetting", 0.0), "first": first}
    return scores | ({"later": sum(later) / len(later)} if later else {})
