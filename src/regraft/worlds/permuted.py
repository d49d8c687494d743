"""Digits in ten orders of their pixels, one after the other, where rows say which; learned by a narrow perceptron.

All tasks have the same ten classes and, but for what a method gives each of them, one head.
"""

from __future__ import annotations

import torch

from regraft.data.scenario import Scenario, Task
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.recipes.strategy import Lived, Strategy, live
from regraft.worlds.tables import data_set, perceptron

TASKS, EPOCHS, BATCH, LR, HIDDEN = 10, 5, 32, 1e-3, (128, 128)


def scenario(seed: int) -> Scenario:
    rows, dice = data_set("digits", seed), torch.Generator().manual_seed(seed)
    classes, tasks = rows.train["y"].unique(), []
    for i in range(TASKS):
        order = torch.randperm(rows.train["x"].shape[1], generator=dice)
        train, held = (part.having(x=part["x"][:, order]) for part in rows)
        tasks.append(Task.of(str(i), train, held, classes, i))
    return Scenario("permuted", tuple(tasks))


def lived(strategy: Strategy, meter: Meter | None, seed: int) -> Lived:
    tasks = scenario(seed)
    model = perceptron(tasks.tasks[0].train["x"].shape[1], *HIDDEN, tasks.classes, seed=seed)
    training = Training(steps=1, batch=BATCH, lr=LR, optimizer="Adam", clip=None, seed=seed, explode=1e9)
    with one_thread():
        return live(model, tasks, strategy, training, epochs=EPOCHS, meter=meter)
