"""Experts that find the tasks of a stream by themselves, over digits whose pixels are reordered."""

from __future__ import annotations

from functools import partial

import torch

from regraft.data.scenario import Scenario, Task
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Test
from regraft.recipes.strategy import Strategy, live
from regraft.strategies.er import er
from regraft.strategies.naive import naive
from regraft.strategies.online_ewc import online_ewc
from regraft.strategies.tame import tame
from regraft.worlds.tables import data_set, perceptron

TASKS, UPDATES = (0, 1, 2, 1, 3), 2  # the second task comes back with other rows; two updates each time
ROWS, BATCH, EPOCHS, LR, HIDDEN, MEMORY = 718, 16, 8, 0.05, (128, 128), 500
FOUND, LATE = [0, 1, 2, 1, 3], 20  # the experts that take over, if each task has its own, and batches until they do


def stream(seed: int) -> Scenario:
    """Digits in four orders of their pixels; half of the updates bring no change."""
    rows, dice = data_set("digits", seed), torch.Generator().manual_seed(seed)
    width = rows.train["x"].shape[1]
    orders = [torch.arange(width), *(torch.randperm(width, generator=dice) for _ in range(max(TASKS)))]
    found = []
    for place, task in enumerate(TASKS):
        train, test = (part.having(x=part["x"][:, orders[task]]) for part in rows)
        begin = ROWS * TASKS[:place].count(task)
        for i in range(UPDATES):
            at = slice(begin + i * ROWS // UPDATES, begin + (i + 1) * ROWS // UPDATES)
            found.append(Task.of(f"{task} ({place}.{i})", train.take(at), test))
    return Scenario("unannounced", tuple(found))


def lived(strategy: Strategy, meter: Meter | None, seed: int) -> dict[str, float]:
    """Accuracy over the four tasks in the end, and whether each had one expert, found again when it came back."""
    tasks = stream(seed)
    network = perceptron(tasks.tasks[0].train["x"].shape[1], *HIDDEN, tasks.classes, seed=seed)
    training = Training(steps=1, batch=BATCH, lr=LR, optimizer="SGD", clip=None, seed=seed, explode=1e9)
    with one_thread():
        found = live(network, tasks, strategy, training, epochs=EPOCHS, meter=meter)
    accuracy = found.scores[-1][[UPDATES * TASKS.index(task) for task in set(TASKS)]].mean()
    turns = found.memory.get("experts", {}).get("turns", [])
    each = UPDATES * round(EPOCHS * tasks.tasks[0].train.count / BATCH)
    in_time = all(0 <= at - each * place <= LATE for place, (at, _) in enumerate(turns))
    return {"accuracy": float(accuracy), "followed": float([e for _, e in turns] == FOUND and in_time)}


def arm(strategy: Strategy) -> Arm:
    return partial(_arm, strategy)


def _arm(strategy: Strategy, meter: Meter, seed: int) -> dict[str, float]:
    return lived(strategy, meter, seed)


claim = Claim(
    says="over tasks that nobody announces, one of which comes back, it opens one expert for each and finds the old "
    "one again, within 20 batches and on more than three seeds of four, is at least 0.1 more accurate over all than "
    "one network, more accurate than EWC and at most 0.02 behind the replay of as many rows as its selector keeps",
    setting="digits in 4 orders of their pixels as 1, 2, 3, 2, 4, each time as two updates of 359 new rows, 8 epochs "
    "of 16; perceptron 64-128-128-10, SGD; outputs unbounded in all arms; strength of EWC chosen on seeds from 100 on",
    arms={
        "naive": arm(naive()),
        "TAME": arm(tame(memory=MEMORY, bounded=False)),
        "EWC": arm(online_ewc(strength=20.0)),
        "replay": arm(er(memory=MEMORY)),
        "TAME, one expert": arm(tame(most=1, bounded=False)),
    },
    tests=(
        Test("followed", "TAME", "naive", by=0.75, lower_is_better=False),
        Test("accuracy", "TAME", "naive", by=0.1, lower_is_better=False),
        Test("accuracy", "TAME", "EWC", lower_is_better=False),
        Test("accuracy", "TAME", "replay", by=-0.02, lower_is_better=False),
    ),
    budget="updates",
    null=("TAME, one expert", "naive"),
    seeds=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    calibrated_on=(100, 101, 102, 103, 104, 105),
)
