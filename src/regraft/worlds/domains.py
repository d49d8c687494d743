"""Twelve small domains of text that every Python carries, learned one after the other by a model over letters.

    source of eight packages · docstrings of four

The base knows prose and code alike: the language reference, and source of single modules.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from regraft.core.parts import Schedule
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.evaluate import mean_nll
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.ngram import ngram_bags
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.ability_matrix import AbilityMatrix, order_by_similarity
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.linear import linear
from regraft.worlds.letters import ALPHABET, WINDOW, encode, neural_ngram, windows
from regraft.worlds.python_text import Document, docstrings, reference, sample, source

PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
DOCUMENTED = ("_pydecimal.py", "asyncio", "email", "xml")
LETTERS, HELD = 32_000, 2_000
BASE_LETTERS, BASE_BATCH, BASE_LR = 400_000, 128, 4e-3
BASE_STEPS, STEPS, BATCH, LR = 2000, 80, 64, 1e-3


class Domain(NamedTuple):
    """`letters` [letters]: some held out, the others to learn from."""

    letters: Tensor

    @property
    def train(self) -> Rows:
        return windows(self.letters[HELD:])

    @property
    def held(self) -> Rows:
        return windows(self.letters[:HELD])


@cache
def domains() -> tuple[Domain, ...]:
    packages, documented = source("packages"), docstrings()
    texts = [_text([d for d in packages if _package(d) == name]) for name in PACKAGES]
    texts += [_text([d for d in documented if _package(d) == name]) for name in DOCUMENTED]
    return tuple(Domain(encode(text)) for text in texts)


def similar_order() -> list[int]:
    """Each domain followed by the most similar of those left, by pairs of letters."""
    return order_by_similarity(ngram_bags([[d.letters.numpy()] for d in domains()]))


def random_order(seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(len(domains())).tolist()
    return order


def stream(meter: Meter, seed: int, order: Sequence[int], *, hidden: int) -> AbilityMatrix:
    """Held-out losses in nats of the base and after each domain, and of the base trained on each alone."""
    model = _base(seed, hidden)
    values = [_losses(model)]
    for place in order:
        _learn(model, domains()[place].train, seed, meter)
        values.append(_losses(model))
    return AbilityMatrix(np.array(values), (None, *order), "lower", np.array(_alone(seed, hidden)))


@cache
def _alone(seed: int, hidden: int) -> list[float]:
    """The loss on each domain of the base trained on it only: what both orders are held against."""
    losses = []
    for domain in domains():
        expert = _base(seed, hidden)
        _learn(expert, domain.train, seed, None)
        losses.append(mean_nll(expert, domain.held))
    return losses


def _base(seed: int, hidden: int) -> Classifier:
    return copy.deepcopy(_trained(seed, hidden))


@cache
def _trained(seed: int, hidden: int) -> Classifier:
    model = neural_ngram(ALPHABET, WINDOW, hidden=hidden, seed=seed)
    known = _text(reference(), BASE_LETTERS) + _text(source("modules"), BASE_LETTERS)
    training = Training(BASE_STEPS, BASE_BATCH, BASE_LR, seed=seed, log_every=BASE_STEPS)
    fit(model, _plan(linear()), {"new": windows(encode(known))}, training)
    return model


def _learn(model: Classifier, rows: Rows, seed: int, meter: Meter | None) -> None:
    fit(model, _plan(None), {"new": rows}, Training(STEPS, BATCH, LR, seed=seed, log_every=STEPS), meter=meter)


def _plan(schedule: Schedule | None) -> Plan:
    return Plan((Feed("new", shuffled()),), (Weighted(nll()),), lr=schedule)


def _losses(model: Classifier) -> list[float]:
    return [mean_nll(model, domain.held) for domain in domains()]


def _text(documents: list[Document], letters: int = LETTERS) -> str:
    return "\n".join(d["text"] for d in sample(documents, letters))[:letters]


def _package(document: Document) -> str:
    return document["name"].split(":")[0].split("/")[0]
