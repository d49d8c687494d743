"""Training on a part of the rows: those that a score chooses once and for all, or whatever a sampler draws.

The scores look at models that are trained on all rows outside of any budget, to the advantage of what they choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor, nn

from regraft.core.parts import Sampler, Schedule
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds.tables import Split, data_set, perceptron, topics

Choice: TypeAlias = Callable[[Rows, int], Tensor]
"""(rows, seed) -> the places of all rows, those to keep first: int64 [rows]."""

EPOCHS, BATCH, LR, HIDDEN = 100, 32, 0.4, 64
SCORE_EPOCHS, SCORE_MODELS = 10, 3


@cache
def data_sets(seed: int) -> dict[str, Split]:
    return {"digits": data_set("digits", seed), "topics": topics(seed)}


def train(meter: Meter | None, seed: int, rows: Rows, sampler: Sampler, count: int) -> Classifier:
    """A perceptron after as many epochs of `count` rows as all rows would get; the rate decays to the end."""
    model = _model(rows, seed)
    _fit(model, seed, rows, sampler, EPOCHS * count // BATCH, rewarm(floor=0.0), meter)
    return model


def at_random(rows: Rows, seed: int) -> Tensor:
    return torch.randperm(rows.count, generator=torch.Generator().manual_seed(seed + 1))


def by_error_norm(rows: Rows, seed: int) -> Tensor:
    """EL2N: the longest |p - y| after a few epochs first, mean over several models (Paul et al. 2021)."""
    models = [list(_epochs(rows, seed + 1000 * m))[-1] for m in range(SCORE_MODELS)]
    truth = nn.functional.one_hot(rows["y"], models[0].shape[1])
    errors = torch.stack([(p - truth).norm(dim=1) for p in models])
    return errors.mean(0).argsort(descending=True)


def by_forgetting(rows: Rows, seed: int) -> Tensor:
    """What went from right to wrong most often first; what was never right counts most (Toneva et al. 2019)."""
    right = torch.stack([p.argmax(1) == rows["y"] for p in _epochs(rows, seed)])
    forgotten = (right[:-1] & ~right[1:]).sum(0)
    return torch.where(right.any(0), forgotten, SCORE_EPOCHS).argsort(descending=True, stable=True)


def by_k_centers(rows: Rows, seed: int) -> Tensor:
    """Each next the row farthest from all before, the first at random (Sener and Savarese 2018)."""
    x = rows["x"]
    order = [int(at_random(rows, seed)[0])]
    far = (x - x[order[0]]).norm(dim=1)
    while len(order) < rows.count:
        far[order[-1]] = -1.0
        order.append(int(far.argmax()))
        far = torch.minimum(far, (x - x[order[-1]]).norm(dim=1))
    return torch.tensor(order)


def by_herding(rows: Rows, seed: int) -> Tensor:
    """The classes in turn, each next the row that keeps the mean so far closest to the class's (Welling 2009)."""
    order, rank = [], []
    for label in rows["y"].unique():
        at = (rows["y"] == label).nonzero()[:, 0]
        x = rows["x"][at]
        left, total = torch.ones(len(at), dtype=torch.bool), torch.zeros(x.shape[1])
        for n in range(1, len(at) + 1):
            distance = (x.mean(0) - (total + x) / n).norm(dim=1)
            best = int(torch.where(left, distance, torch.inf).argmin())
            left[best], total = False, total + x[best]
            order.append(int(at[best]))
            rank.append(n)
    return torch.tensor(order)[torch.tensor(rank).argsort(stable=True)]


@torch.no_grad()
def _epochs(rows: Rows, seed: int) -> Iterator[Tensor]:
    """The probabilities [rows, classes] after each of the first epochs of training on all rows."""
    model = _model(rows, seed)
    for epoch in range(SCORE_EPOCHS):
        with torch.enable_grad():
            _fit(model, seed + epoch, rows, shuffled(), rows.count // BATCH, None, None)
        yield model.module(rows["x"]).softmax(1)


def _model(rows: Rows, seed: int) -> Classifier:
    return perceptron(rows["x"].shape[1], HIDDEN, int(rows["y"].max()) + 1, seed=seed)


def _fit(
    model: Classifier,
    seed: int,
    rows: Rows,
    sampler: Sampler,
    steps: int,
    schedule: Schedule | None,
    meter: Meter | None,
) -> None:
    plan = Plan((Feed("new", sampler),), (Weighted(nll()),), lr=schedule)
    fit(
        model, plan, {"new": rows}, Training(steps, BATCH, LR, optimizer="SGD", seed=seed, log_every=steps), meter=meter
    )
