"""Dice of a stream's updates: each has its own, even if all are run with one seed."""

from __future__ import annotations

import torch


def of_update(dice: torch.Generator, number: int) -> torch.Generator:
    """Those of the update of this number, from 0, out of the dice that a part begins with."""
    seeds = torch.randint(2**62, (number + 1,), generator=dice)
    return torch.Generator().manual_seed(int(seeds[-1]))
