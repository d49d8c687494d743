"""Streams in which classes come back, and what is measured of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.scenario import long_stream, split_classes
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.accumulation import accumulation
from regraft.recipes.strategy import Strategy, live


def table(count: int, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    return Rows({"x": torch.randn(count, 4, generator=dice), "y": torch.arange(count) % 6})


def test_each_task_is_of_few_classes_that_come_back() -> None:
    train, test = table(60), table(24, 1)
    stream = long_stream(train, test, 50, classes=2, rows=7, seed=3)
    assert [(t.train.count, len(t.classes)) for t in stream.tasks] == [(7, 2)] * 50
    assert all(t.train["row"].tolist() == list(range(7)) for t in stream.tasks)
    assert {int(c) for t in stream.tasks for c in t.classes} == set(range(6))
    assert stream.classes == 6
    assert [rows["y"].unique().tolist() for rows, _ in stream.judged] == [[c] for c in range(6)]
    assert stream.taught.sum(1).tolist() == [2] * 50
    assert all(stream.taught[i].nonzero()[:, 0].tolist() == t.classes.tolist() for i, t in enumerate(stream.tasks))
    again, other = (long_stream(train, test, 50, rows=7, seed=seed) for seed in (3, 4))
    assert all(torch.equal(a.train["x"], b.train["x"]) for a, b in zip(stream.tasks, again.tasks, strict=True))
    assert [t.name for t in stream.tasks] != [t.name for t in other.tasks]
    shorter = long_stream(train, test, 5, rows=7, seed=3)
    assert [t.name for t in shorter.tasks] == [t.name for t in stream.tasks[:5]]


def test_all_rows_of_a_task_and_odds_of_classes() -> None:
    stream = long_stream(table(60), table(24, 1), 200, classes=1, rows=None, odds=[9, 1, 1, 1, 1, 1])
    assert all(t.train.count == 10 for t in stream.tasks)
    assert 0.5 < float(stream.taught[:, 0].double().mean()) < 0.8


def test_streams_that_cannot_be_drawn() -> None:
    train, test = table(60), table(24, 1)
    with pytest.raises(RegraftError, match="3 tasks of 7 classes cannot be drawn from 6 classes"):
        long_stream(train, test, 3, classes=7)
    with pytest.raises(RegraftError, match="class 5 has no row to be tested on"):
        long_stream(train, test.where(test["y"] < 5), 3)
    with pytest.raises(RegraftError, match="there are 2 odds for 6 classes"):
        long_stream(train, test, 3, odds=[1, 1])


def test_every_version_is_tested_on_each_class_and_measured() -> None:
    torch.manual_seed(0)
    stream = long_stream(table(60), table(24, 1), 9, rows=10)
    training = Training(steps=1, batch=5, lr=0.1, optimizer="SGD")
    lived = live(Classifier(nn.Linear(4, 6)), stream, Strategy(), training)
    assert lived.scores.shape == (10, 6)
    assert lived.measures() == accumulation(lived.scores, stream.taught.numpy())


def test_without_tests_of_its_own_a_task_is_its_own_test() -> None:
    plain = split_classes(table(60), table(24, 1), 3)
    assert torch.equal(plain.taught, torch.eye(3, dtype=torch.bool))
    assert all(rows is task.test for (rows, _), task in zip(plain.judged, plain.tasks, strict=True))


def test_what_is_gathered_and_what_is_forgotten_at_once() -> None:
    scores = np.array([[0.0, 0.0], [0.8, 0.0], [0.2, 1.0], [0.6, 0.4], [0.6, 0.8]])
    taught = np.array([[True, False], [False, True], [True, False], [True, True]])
    found = accumulation(scores, taught)
    # Forgotten: 0.8 -> 0.2 of the first test, 1.0 -> 0.4 of the second; nothing of the third task, whose test returns.
    expected = {"total_early": 0.4, "total_late": 0.7, "accumulation": 0.3, "immediate_early": 0.6}
    assert found == pytest.approx(expected)
    losses = accumulation(-scores, taught, better="lower")
    assert losses == pytest.approx({**expected, "total_early": -0.4, "total_late": -0.7})
    with pytest.raises(RegraftError, match="are not of one"):
        accumulation(scores[1:], taught)
