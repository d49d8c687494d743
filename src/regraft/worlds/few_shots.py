"""Curves of which few drawings are there: twenty with twenty each, then four times five with five each.

Every class is one curve, drawn on 8 x 8 pixels by a hand that trembles (`worlds.transformers`). Settings are chosen on
other seeds, and so on other curves.
"""

from __future__ import annotations

import torch
from torch import nn

from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, few_shot, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.transformers import strokes

BASE, WAYS, SESSIONS, SHOTS, DRAWN = 20, 5, 4, 5, 20
CLASSES, WIDTH = BASE + WAYS * SESSIONS, 64
BATCH, EPOCHS, LR = 32, 20, 0.05
UPDATES = BASE * DRAWN * EPOCHS // BATCH
"""Of the first task at its usual length."""


def stream(seed: int, shots: int = SHOTS) -> Scenario:
    """A first task of many classes, and later ones of a few rows of each class."""
    train, held = strokes(seed, CLASSES)
    even = Rows.join(train.where(train["y"] == c).take(slice(0, DRAWN)) for c in range(CLASSES))
    later = [range(first, first + WAYS) for first in range(BASE, CLASSES, WAYS)]
    return few_shot(split_classes(even, held, [range(BASE), *later], name="few shots"), shots, seed=seed)


def network(classes: int, seed: int, channels: tuple[int, int] = (16, 32)) -> Classifier:
    """Two convolutions, averages, and a linear layer whose features may be negative, under a head."""
    a, b = channels
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        layers += [nn.Conv2d(1, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU()]
        layers += [nn.Conv2d(a, b, 3, padding=1, stride=2), nn.BatchNorm2d(b), nn.ReLU()]
        layers += [nn.Flatten(), nn.Linear(16 * b, WIDTH), nn.Linear(WIDTH, classes)]
        return Classifier(nn.Sequential(*layers))


def lived(
    strategy: Strategy, meter: Meter | None, seed: int, tasks: Scenario | None = None, *, lr: float = LR
) -> dict[str, float]:
    """Accuracies in [0, 1] over all classes after the last task: all classes, those of the first task, all later ones,
    the harmonic mean of these two, and what was lost of the first task since it was learned."""
    tasks = tasks or stream(seed)
    training = Training(steps=1, batch=BATCH, lr=lr, optimizer="SGD", clip=None, seed=seed, explode=1e9)
    with one_thread():
        found = live(network(CLASSES, seed), tasks, strategy, training, epochs=EPOCHS, meter=meter)
    sizes = torch.tensor([task.test.count for task in tasks.tasks], dtype=torch.float64)
    last = torch.as_tensor(found.scores[-1])
    first, later = float(last[0]), float((last * sizes)[1:].sum() / sizes[1:].sum())
    return {
        "accuracy": float((last * sizes).sum() / sizes.sum()),
        "base": first,
        "new": later,
        "harmonic": 2 * first * later / max(first + later, 1e-12),
        "drop": float(found.scores[1, 0]) - first,
    }
