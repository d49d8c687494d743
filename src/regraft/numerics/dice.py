"""Dice of a stream's updates: each has its own, even if all are run with one seed. And torch's own, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def of_update(dice: torch.Generator, number: int) -> torch.Generator:
    """Those of the update of this number, from 0, out of the dice that a part begins with."""
    seeds = torch.randint(2**62, (number + 1,), generator=dice)
    return torch.Generator().manual_seed(int(seeds[-1]))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's own generators, those of all devices in use, seeded inside and as they were afterwards."""
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        torch.manual_seed(seed)
        yield
