"""Digits as they are drawn: 8 x 8 pixels from 0, the paper, to 1, so that they can be shifted and turned."""

from __future__ import annotations

import torch

from regraft.data.scenario import Scenario, split_classes
from regraft.models.classifier import Classifier
from regraft.worlds.splits import TASKS, convolutional
from regraft.worlds.tables import Split, split


def pictures(seed: int) -> Split:
    """A fifth is held out. Columns `x` [rows, 64] float32, `y` [rows] int64."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return split(torch.tensor(loaded.data, dtype=torch.float32) / 16, torch.tensor(loaded.target).long(), seed)


def two_by_two(seed: int, *, told: bool = False) -> Scenario:
    """0 and 1, then 2 and 3, ...; `told`: and tests say of which pair they are."""
    rows = pictures(seed)
    return split_classes(rows.train, rows.held, TASKS, told=told, name="pictures")


def network(tasks: Scenario, seed: int) -> Classifier:
    """Two convolutions and a head."""
    return convolutional(tasks.classes, seed=seed)
