"""A walk over `size` places in random order, without replacement until all were seen."""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.parts import Stateful


class Walk(Stateful):
    """Gives the next places of a random permutation, and goes on with a new one when it is used up.

    Args:
        size: number of places.
        dice: the generator that the permutations are drawn from.
    """

    state = ("order", "at", "dice")

    def __init__(self, size: int, dice: torch.Generator) -> None:
        self.size, self.dice, self.at = size, dice, 0
        self.order = torch.empty(0, dtype=torch.long)

    def next(self, count: int) -> Tensor:
        """The next `count` places, int64 [count]; none if there are no places at all."""
        if self.at + count <= len(self.order):
            self.at += count
            return self.order[self.at - count : self.at]
        if not self.size:
            return self.order
        pieces = [self.order[self.at :]]
        missing = count - len(pieces[0])
        while missing > 0:
            self.order = torch.randperm(self.size, generator=self.dice)
            self.at = min(missing, self.size)
            pieces.append(self.order[: self.at])
            missing -= self.at
        return torch.cat(pieces)
