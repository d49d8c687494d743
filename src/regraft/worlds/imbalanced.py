"""Two random languages, one fifty times rarer than the other, and a small model that learns both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.parts import Context, Grads, Sampler, Stateful
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.evaluate import mean_nll
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.mixture import places_by, sizes_of, tempered
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds.letters import WINDOW, neural_ngram, speak, windows
from regraft.worlds.offline import context

ALPHABET, LENGTH = 20, 41
RARE, TIMES, HELD = 40, 50, 200
NAMES = ("common", "rare")


class Languages(NamedTuple):
    """Windows of both, told apart by column `source`; and of each, held out."""

    rows: Rows
    held: Mapping[str, Rows]


@cache
def languages(seed: int) -> Languages:
    """Markov chains, each over letters of its own."""
    dice = torch.Generator().manual_seed(seed)
    found, held = [], {}
    for script, (name, texts) in enumerate(zip(NAMES, (RARE * TIMES, RARE), strict=True)):
        table = (2 * torch.randn(ALPHABET, ALPHABET, generator=dice, dtype=torch.float64)).softmax(1)
        spoken = speak(table, texts + HELD, LENGTH, dice) + script * ALPHABET
        held[name] = _rows(spoken[texts:])
        part = _rows(spoken[:texts])
        found.append(part.having(source=[name] * part.count))
    return Languages(Rows.join(found), held)


def _rows(texts: Tensor) -> Rows:
    return Rows.join(windows(text) for text in texts)


def learner(seed: int) -> Classifier:
    return neural_ngram(2 * ALPHABET, WINDOW, seed=seed)


def learn(meter: Meter | None, seed: int, sampler: Sampler, *, steps: int = 600) -> dict[str, float]:
    """Scores: held-out loss of each language in nats after training on rows that `sampler` draws."""
    model, world = learner(seed), languages(seed)
    fit(model, _plan(sampler), {"new": world.rows}, Training(steps, 64, 3e-3, seed=seed), meter=meter)
    return {f"{name} loss": mean_nll(model, rows) for name, rows in world.held.items()}


def _plan(sampler: Sampler, *gradients: moments) -> Plan:
    return Plan((Feed("new", sampler),), (Weighted(nll()),), gradients=gradients)


def gradient_scores(
    meter: Meter, seed: int, sampler: Sampler, rows: Rows, tau: float, *, steps: int = 1000, batch: int = 64
) -> dict[str, float]:
    """The gradient of the mean loss of `batch` rows that `sampler` draws, over `steps` batches, in a new model.

    Scores: `variance`, the trace of its covariance; `bias`, the squared distance of its mean from the expected gradient
    at `tau`, in units of what that distance would be by chance: 1 on average if there is no bias.
    """
    found = _moments(meter, seed, sampler, rows, steps, batch)
    distance = found.mean - expected_gradient(seed, tau)
    return {"variance": found.variance, "bias": float(distance @ distance) * steps / found.variance}


def full_batch_gradient(seed: int, rows: Rows) -> Tensor:
    """The gradient of one batch that holds every row once, as the engine computes it."""
    return _moments(None, seed, shuffled(), rows, 1, rows.count).mean


class _Sums(NamedTuple):
    mean: Tensor
    variance: float


def _moments(meter: Meter | None, seed: int, sampler: Sampler, rows: Rows, steps: int, batch: int) -> _Sums:
    plan = _plan(sampler, moments())
    fitted = fit(learner(seed), plan, {"new": rows}, Training(steps, batch, 1.0, seed=seed, clip=None), meter=meter)
    total, squares = fitted.memory["moments"]
    mean = total / steps
    return _Sums(mean, float((squares - steps * (mean @ mean)) / max(steps - 1, 1)))


def expected_gradient(seed: int, tau: float) -> Tensor:
    """sum_i p_tau(i) · (gradient of the mean loss of language i), flat, at the weights of `gradient_moments`."""
    rows, model = languages(seed).rows, learner(seed)
    places = places_by(rows, "source")
    ctx = context(model=model)
    each = torch.stack([_flat(ctx.gradient(rows.take(at), nll())) for at in places.values()])
    return tempered(sizes_of(places), tau) @ each


def _flat(grads: Grads) -> Tensor:
    return torch.cat([g.flatten() for g in grads.values()]).double()


@dataclass(frozen=True)
class moments:
    """Adds up the gradients and their squared norms, and lets no step be taken."""

    def begin(self, ctx: Context) -> _Moments:
        return _Moments()


class _Moments(Stateful):
    state = ("total", "squares")

    def __init__(self) -> None:
        self.total = self.squares = torch.zeros((), dtype=torch.float64)

    def update(self, grads: Grads) -> Grads:
        flat = _flat(grads)
        self.total, self.squares = self.total + flat, self.squares + flat @ flat
        return {}

    def leave(self) -> Mapping[str, Any]:
        return {"moments": (self.total, self.squares)}
