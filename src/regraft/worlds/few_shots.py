"""Streams of few rows: a first task of several classes, 240 rows in all, then four tasks of five rows a class.

digits    0 to 5, then 6, 7, 8 and 9, one at a time; settings are chosen on letters, in the same way
curves    eight curves, then twelve others, three at a time
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, few_shot, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.glyphs import glyphs
from regraft.worlds.pictures import pictures
from regraft.worlds.transformers import strokes

Kind: TypeAlias = Literal["digits", "curves"]
ROWS, SESSIONS, SHOTS, WIDTH = 240, 4, 5, 64
SIZES: dict[Kind, tuple[int, int]] = {"digits": (6, 1), "curves": (8, 3)}
"""Classes of the first task and of each later one."""
BATCH, EPOCHS, LR = 32, 20, 0.05
UPDATES = ROWS * EPOCHS // BATCH
"""Of the first task at its usual length."""


def stream(seed: int, kind: Kind = "digits", *, tuning: bool = False) -> Scenario:
    base, ways = SIZES[kind]
    classes = base + SESSIONS * ways
    if kind == "curves":
        train, held = strokes(seed, classes)
    else:
        train, held = glyphs(seed) if tuning else pictures(seed)
    even = Rows.join(train.where(train["y"] == c).take(slice(0, ROWS // base)) for c in range(classes))
    later = [range(first, first + ways) for first in range(base, classes, ways)]
    return few_shot(split_classes(even, held, [range(base), *later], name=kind), SHOTS, seed=seed)


def network(tasks: Scenario, seed: int) -> Classifier:
    """Two convolutions with batch normalisation, and a linear layer whose features may be negative, under a head."""
    with seeded(seed):
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        layers += [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
        layers += [nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [nn.Flatten(), nn.Linear(16 * 32, WIDTH), nn.Linear(WIDTH, tasks.classes)]
        return Classifier(nn.Sequential(*layers))


def lived(strategy: Strategy, meter: Meter | None, seed: int, tasks: Scenario) -> dict[str, float]:
    """Accuracies in [0, 1], chosen among all classes, after the last task: on all rows, on those of the first task
    (`base`), on those of later ones (`new`); the harmonic mean of these two, and what was lost of the first (`drop`).
    """
    training = Training(steps=1, batch=BATCH, lr=LR, optimizer="SGD", clip=None, seed=seed, explode=1e9)
    with one_thread():
        scores = live(network(tasks, seed), tasks, strategy, training, epochs=EPOCHS, meter=meter).scores
    right, rows = scores[-1], [task.test.count for task in tasks.tasks]
    base, new = float(right[0]), float(right[1:] @ rows[1:]) / sum(rows[1:])
    return {
        "accuracy": float(right @ rows) / sum(rows),
        "base": base,
        "new": new,
        "harmonic": 2 * base * new / max(base + new, 1e-12),
        "drop": float(scores[1, 0]) - base,
    }
