"""One process or many: what the loop needs to know of its fellows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows

T = TypeVar("T", Tensor, float, Tensor | float)
Layout: TypeAlias = list[tuple[str, int, int]]
"""Where each feed's rows lie in a table: name, first, one past the last."""


def clipped(layout: Layout, start: int, stop: int) -> Layout:
    """The layout of the rows in [start, stop), counted from `start`."""
    return [(n, max(a, start) - start, min(b, stop) - start) for n, a, b in layout if a < stop and b > start]


class Processes:
    """One process: nothing to share. `Group` is the same for several."""

    rank, size = 0, 1

    def share(self, rows: Rows, layout: Layout) -> tuple[Rows, Layout]:
        """This process's rows of the step's batch."""
        return rows, layout

    def total(self, value: T) -> T:
        """The sum over all processes."""
        return value

    def gather(self, value: Tensor) -> Tensor:
        """All processes' rows, in the order of the whole batch."""
        return value

    def hold(self, runner: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around a backward pass: gradients are exchanged in the step's last one only."""
        return nullcontext()


class Group(Processes):
    """The processes of torch.distributed's default group.

    Every process draws the same batch with the same dice and reads its own consecutive slice, so the step equals that of one
    process with the whole batch. Gradients are averaged by DDP or FSDP2; the loop scales its loss by `size` to make that a sum.
    """

    def __init__(self) -> None:
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def share(self, rows: Rows, layout: Layout) -> tuple[Rows, Layout]:
        if rows.count % self.size:
            raise RegraftError(
                f"a batch of {rows.count} rows cannot be shared by {self.size} processes", do="Choose a multiple"
            )
        each = rows.count // self.size
        start, stop = self.rank * each, (self.rank + 1) * each
        return rows.take(slice(start, stop)), clipped(layout, start, stop)

    def total(self, value: T) -> T:
        if not isinstance(value, Tensor):
            return value * self.size
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(self.size)]
        torch.distributed.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def hold(self, runner: nn.Module, last: bool) -> AbstractContextManager[None]:
        if last or not isinstance(runner, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return runner.no_sync()
