"""Small transformers that look at drawings of 8 x 8 in 16 patches, and a stream of such drawings.

A stream has 40 curves, ten at a time; each class is one curve, drawn 60 times by a hand that trembles. A pretrained
network knows 40 others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from regraft.core.parts import Weights
from regraft.core.plan import Feed, Plan, Weighted
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.tables import Split, split

SIDE, PATCH = 8, 2
CURVES, DRAWN, TASKS = 40, 60, 4
BATCH, EPOCHS, LR = 32, 20, 2e-3
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
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        changed: Tensor = x + self.mlp(self.norm2(x))
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
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        places = (side // PATCH) ** 2
        return Classifier(
            Transformer(Patches(side, PATCH, width), places, classes, width=width, depth=depth, heads=heads)
        )


def strokes(seed: int) -> Split:
    """Drawings of curves, each class one curve through four points that a hand does not hit twice."""
    dice = torch.Generator().manual_seed(seed)
    y = torch.arange(CURVES).repeat_interleave(DRAWN)
    points = torch.rand(CURVES, 4, 2, generator=dice)[y] * 5 + 1 + torch.randn(len(y), 4, 2, generator=dice) * 0.35
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


def new(tasks: Scenario, seed: int) -> Classifier:
    return vision(tasks.classes, seed=seed)


def pretrained(tasks: Scenario, seed: int) -> Classifier:
    """A network that learned to tell other curves apart, with a new head."""
    body, model = _pretrained(seed), new(tasks, seed)
    model.load({name: tensor for name, tensor in body.items() if not name.startswith("head.")})
    return model


@cache
def _pretrained(seed: int) -> Weights:
    rows = strokes(seed + OTHERS)
    model, plan = vision(CURVES, seed=seed), Plan((Feed("new", shuffled()),), (Weighted(nll()),))
    with one_thread():
        fit(model, plan, {"new": rows.train}, PRETRAINING)
    return model.state()


def lived(
    strategy: Strategy,
    meter: Meter | None,
    seed: int,
    *,
    told: bool = False,
    network: Callable[[Scenario, int], Classifier] = new,
    epochs: float = EPOCHS,
    lr: float = LR,
) -> dict[str, float]:
    """Accuracy over all tasks after the last, and forgetting, both in [0, 1]."""
    tasks = stream(seed, told=told)
    training = Training(steps=1, batch=BATCH, lr=lr, clip=None, seed=seed, explode=1e9)
    with one_thread():
        found = live(network(tasks, seed), tasks, strategy, training, epochs=epochs, meter=meter).measures()
    return {"accuracy": found["average"], "forgetting": found["forgetting"]}
