"""Digits for networks that are pretrained: a body that learned half of the rows of 0 to 4, and the rows that are left.

    scenario    the digits that are left, two at a time; the body knows the first five
    network     that body under a new head; what pretraining costs is counted for no arm

What convolutions learned carries over to digits they never saw: nearest class means are right on 0.89 of all ten, under
untrained convolutions on 0.78. Under a perceptron pretraining changes little. Settings of methods for convolutions are
chosen on other seeds, those for perceptrons on the same streams of documents of ten topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import torch

from regraft.core.parts import Weights
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.bits import one_thread
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds.splits import TASKS, convolutional
from regraft.worlds.tables import Split, data_set, perceptron, topics

Body: TypeAlias = Literal["convolutions", "perceptron"]
KNOWN, HIDDEN = 5, (256, 256)
TRAINING = Training(steps=600, batch=32, lr=0.05, optimizer="SGD", clip=None)


@lru_cache
def parted(seed: int, *, tuning: bool = False) -> tuple[Rows, Split]:
    """The rows that the body learns from, half of those of the known classes, and what is left for a stream."""
    train, held = topics(seed) if tuning else data_set("digits", seed)
    own = torch.zeros(train.count, dtype=torch.bool)
    own[(train["y"] < KNOWN).nonzero()[::2, 0]] = True
    return train.where(own), Split(train.where(~own), held)


def scenario(
    seed: int,
    tasks: int | Sequence[Sequence[int]] = TASKS,
    *,
    order: int | None = None,
    told: bool = False,
    tuning: bool = False,
) -> Scenario:
    """A stream of the rows that are left; `tasks` and `order` as in `split_classes`."""
    _, left = parted(seed, tuning=tuning)
    return split_classes(left.train, left.held, tasks, order=order, told=told, name="pretrained")


def network(tasks: Scenario, seed: int, *, body: Body = "convolutions", tuning: bool = False) -> Classifier:
    """The pretrained body under a new head for the stream. Documents are no images: only the perceptron reads them."""
    model = _new(tasks.tasks[0].train["x"].shape[1], tasks.classes, seed, body)
    model.load(_learned(seed, body, tuning))
    return model


def _new(width: int, classes: int, seed: int, body: Body) -> Classifier:
    if body == "convolutions":
        return convolutional(classes, seed=seed)
    return perceptron(width, *HIDDEN, classes, seed=seed)


@lru_cache
def _learned(seed: int, body: Body, tuning: bool) -> Weights:
    """What the body learned."""
    rows, _ = parted(seed, tuning=tuning)
    model = _new(rows["x"].shape[1], KNOWN, seed, body)
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
    with one_thread():
        fit(model, plan, {"new": rows}, TRAINING)
    return {
        name: tensor.clone() for name, tensor in model.state().items() if not name.startswith(f"{model.head_name}.")
    }
