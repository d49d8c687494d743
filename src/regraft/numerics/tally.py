"""What was written for each item so far, and how it went."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.parts import Stateful
from regraft.core.rows import Rows

MOST_FAULTS = 20
"""Faults that are told apart."""


def faults(rows: Rows) -> Counter[str]:
    """How many rows a checker could not judge, by what its column `fault` says."""
    return Counter(filter(None, rows["fault"])) if "fault" in rows else Counter()


class Tally(Stateful):
    """Sums over the rollouts of each item, each float64 [items].

    Attributes:
        written: how many.
        reward: their rewards; with rewards of 0 and 1, `pass_rate` is the part that was right.
        tokens: that were written.
        surprise: minus the log-probabilities of these tokens, in nats: over `tokens`, an estimate of the entropy.
    """

    state = ("written", "reward", "tokens", "surprise")

    def __init__(self, items: int) -> None:
        self.written, self.reward, self.tokens, self.surprise = torch.zeros(4, items, dtype=torch.float64)

    def grow(self, items: int) -> None:
        """Room for so many items."""
        more = items - len(self.written)
        for name in self.state:
            setattr(self, name, F.pad(getattr(self, name), (0, more)))

    def add(self, item: Tensor, reward: Tensor, tokens: Tensor, surprise: Tensor) -> None:
        """Rollouts, one a row: the place of its item, its reward, its tokens, and minus its log-probability."""
        self.written = self.written.index_add(0, item, torch.ones_like(reward, dtype=torch.float64))
        self.reward = self.reward.index_add(0, item, reward.double())
        self.tokens = self.tokens.index_add(0, item, tokens.double())
        self.surprise = self.surprise.index_add(0, item, surprise.double())

    @property
    def pass_rate(self) -> Tensor:
        """Mean reward of each item, NaN where nothing was written."""
        found: Tensor = self.reward / self.written
        return found

    @property
    def entropy(self) -> Tensor:
        """Mean surprise of a token of each item in nats, NaN where nothing was written."""
        found: Tensor = self.surprise / self.tokens
        return found
