"""Small language models over letters: the next one from a window of those before, as rows of a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regraft.core.rows import Rows
from regraft.models.classifier import Classifier
from regraft.numerics.dice import seeded

ALPHABET = 96
WINDOW = 8


def encode(text: str) -> Tensor:
    """The printable characters of ASCII as 0 to 94, every other one as 95: int64 [characters]."""
    codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8).long() - 32
    return torch.where((codes >= 0) & (codes < ALPHABET - 1), codes, ALPHABET - 1)


def windows(letters: Tensor, width: int = WINDOW) -> Rows:
    """Every letter that has `width` before it: `x` [rows, width] and `y` [rows], int64."""
    x = letters.unfold(0, width + 1, 1)
    return Rows({"x": x[:, :-1], "y": x[:, -1]})


def speak(table: Tensor, count: int, length: int, dice: torch.Generator) -> Tensor:
    """Texts of the language whose next letters are distributed as `table` [alphabet ** order, alphabet] says."""
    contexts = len(table)
    state = torch.randint(0, contexts, (count,), generator=dice)
    letters = []
    for _ in range(length):
        letter = torch.multinomial(table[state], 1, generator=dice)[:, 0]
        letters.append(letter)
        state = (state * table.shape[1] + letter) % contexts
    return torch.stack(letters, 1)


def neural_ngram(alphabet: int, width: int, *, embed: int = 16, hidden: int = 128, seed: int = 0) -> Classifier:
    """Embeddings of a window's letters, one hidden layer, logits of the next (Bengio et al. 2003)."""
    with seeded(seed):
        layers = nn.Sequential(
            nn.Embedding(alphabet, embed),
            nn.Flatten(),
            nn.Linear(width * embed, hidden),
            nn.ReLU(),
            nn.Linear(hidden, alphabet),
        )
    return Classifier(layers)
