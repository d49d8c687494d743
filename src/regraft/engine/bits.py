"""What the bits of a result depend on beside code and input: torch's own generators and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def random_state() -> dict[str, Tensor]:
    """The state of torch's own generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Puts torch's own generators where `random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def own_dice(seed: int) -> Iterator[None]:
    """torch's own generators seeded inside, and as they were afterwards."""
    before = random_state()
    # Where there is no other device torch would note the stack, to seed those that may come.
    (torch if torch.accelerator.is_available() else torch.default_generator).manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside: the number of threads changes the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
