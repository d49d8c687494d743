"""Small classification: scikit-learn's own data sets, documents of topics, and the networks that learn them."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from regraft.core.rows import Rows
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded

DataSet: TypeAlias = Literal["digits", "breast_cancer", "iris", "diabetes"]
HELD_OUT = 0.2


class Split(NamedTuple):
    """What is learned from, and what is not. Columns `x` [rows, features] float32, `y` [rows] int64."""

    train: Rows
    held: Rows


def data_set(name: DataSet, seed: int) -> Split:
    """One of scikit-learn's data sets with features of mean 0 and variance 1 at most, a fifth of it held out.

    The class in diabetes is whether the disease progressed more than in half of the patients.
    """
    from sklearn import datasets

    loaded = {
        "digits": datasets.load_digits,
        "breast_cancer": datasets.load_breast_cancer,
        "iris": datasets.load_iris,
        "diabetes": datasets.load_diabetes,
    }[name]()
    x, y = torch.tensor(loaded.data, dtype=torch.float32), torch.tensor(loaded.target)
    y = (y > y.median()).long() if name == "diabetes" else y.long()
    return split((x - x.mean(0)) / x.std(0).clamp(min=1e-6), y, seed)


def topics(seed: int, *, documents: int = 1000, classes: int = 10, words: int = 500, length: int = 30) -> Split:
    """Documents as bags of words: [documents, words], each word counted by the square root of how often it comes.

    A topic has word frequencies of its own, drawn around one Zipf law that all share; half of a document is that law's.
    """
    dice = torch.Generator().manual_seed(seed)
    zipf = 1.0 / torch.arange(1, words + 1, dtype=torch.float64)
    own = zipf * torch.randn(classes, words, generator=dice, dtype=torch.float64).mul(1.5).exp()
    frequency = (own / own.sum(1, keepdim=True) + zipf / zipf.sum()) / 2
    y = torch.randint(0, classes, (documents,), generator=dice)
    drawn = torch.multinomial(frequency[y], length, replacement=True, generator=dice)
    counts = torch.zeros(documents, words).scatter_add_(1, drawn, torch.ones(documents, length))
    return split(counts.sqrt(), y, seed)


def split(x: Tensor, y: Tensor, seed: int) -> Split:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    held = round(HELD_OUT * len(y))
    return Split(*(Rows({"x": x[at], "y": y[at]}) for at in (order[held:], order[:held])))


def perceptron(*widths: int, seed: int) -> Classifier:
    """Linear layers of the given widths, inputs first, with ReLU between them; two widths are logistic regression."""
    with seeded(seed):
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return Classifier(nn.Sequential(*layers[:-1]))


@torch.no_grad()
def accuracy(model: Classifier, rows: Rows) -> float:
    """The part of the rows whose class has the largest logit."""
    return float((model.module(rows["x"]).argmax(-1) == rows["y"]).double().mean())
