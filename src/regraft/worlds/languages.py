"""Two languages of one grammar that share some words, for a model of masked words and a task labelled in one of them.

    words     tags follow one another by one table; a tag is said by a word of its own, in each language another,
              but for a few that both share
    masked    the word in the middle of a window, which is hidden: language A, language B
    tags      the tag of the word in the middle, which is seen

A window is embedded, read by one hidden layer, and its middle is told by the words' own embeddings or, with a head of
its own, by tags. The base has read much of A and a little of B.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded
from regraft.numerics.evaluating import evaluating
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled

Language: TypeAlias = Literal["A", "B"]
TAGS, WORDS, SHARED, WINDOW = 8, 20, 4, 5
VOCABULARY = TAGS * (2 * WORDS - SHARED) + 1
HIDDEN_WORD = VOCABULARY - 1
EMBED, HIDDEN = 32, 128
TEXT, HELD = 20_000, 2_000
BASE_STEPS, BATCH, LR, FOREIGN = 1500, 64, 3e-3, 0.05
TASK_CLASSES = torch.arange(VOCABULARY + TAGS).lt(VOCABULARY).eq(torch.tensor([[True], [False]]))
"""Which outputs answer what is masked, and which the tags."""


class MaskedWords(nn.Module):
    """Logits of all words, then of all tags, of the middle of a window [rows, WINDOW]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, EMBED)
        self.read = nn.Linear(WINDOW * EMBED, HIDDEN)
        self.say = nn.Linear(HIDDEN, EMBED)
        self.tags = nn.Linear(EMBED, TAGS)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.say(self.read(self.words(x).flatten(1)).relu())
        return torch.cat([middle @ self.words.weight.T, self.tags(middle)], 1)


@cache
def text(language: Language, seed: int, count: int = TEXT) -> tuple[Tensor, Tensor]:
    """The words of a text and their tags, int64 [count] both."""
    grammar = torch.Generator().manual_seed(seed)
    follows = torch.randn(TAGS, TAGS, generator=grammar).mul(1.5).softmax(1)
    often = 1.0 / torch.arange(1, WORDS + 1)
    dice = torch.Generator().manual_seed(2 * seed + (language == "B") + 1000 * count)
    drawn, tags = torch.rand(count, generator=dice), [0]
    bounds = follows.cumsum(1).tolist()
    for u in drawn[1:].tolist():
        tags.append(min(sum(u > bound for bound in bounds[tags[-1]]), TAGS - 1))
    tag = torch.tensor(tags)
    word = torch.multinomial(often, count, replacement=True, generator=dice)
    own = tag * (2 * WORDS - SHARED) + word
    return torch.where((word >= SHARED) & torch.tensor(language == "B"), own + WORDS - SHARED, own), tag


def masked(language: Language, seed: int, count: int = TEXT) -> Rows:
    x = text(language, seed, count)[0].unfold(0, WINDOW, 1).clone()
    y = x[:, WINDOW // 2].clone()
    x[:, WINDOW // 2] = HIDDEN_WORD
    return Rows({"x": x, "y": y, "task": torch.zeros_like(y), "row": torch.arange(len(y))})


def tagged(language: Language, seed: int, count: int = TEXT) -> Rows:
    words, tags = text(language, seed, count)
    x, y = words.unfold(0, WINDOW, 1), tags.unfold(0, WINDOW, 1)[:, WINDOW // 2]
    return Rows({"x": x, "y": y + VOCABULARY, "task": torch.ones_like(y), "row": torch.arange(len(y))})


def base(seed: int) -> Classifier:
    """A model that has read the words of A, and few of B; what its training costs is counted for no arm."""
    return copy.deepcopy(_base(seed))


@torch.no_grad()
def accuracy(model: Classifier, rows: Rows) -> float:
    """The part of the rows whose tag is right."""
    with evaluating(model):
        logits = model.read(rows).logits
    return float((logits[:, VOCABULARY:].argmax(1) + VOCABULARY == rows["y"]).double().mean())


@cache
def _base(seed: int) -> Classifier:
    with seeded(seed):
        model = Classifier(MaskedWords(), head="tags")
    model.task_classes = TASK_CLASSES
    data = {"A": masked("A", seed), "B": masked("B", seed)}
    plan = Plan((Feed("A", shuffled("A")), Feed("B", shuffled("B"), FOREIGN)), (Weighted(nll()),))
    with one_thread():
        fit(model, plan, data, Training(BASE_STEPS, BATCH, LR, seed=seed, log_every=BASE_STEPS))
    return model
