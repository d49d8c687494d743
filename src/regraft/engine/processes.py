"""One process, and what the loop asks of its fellows where there are several (`regraft.engine.distributed`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from regraft.core.parts import View, Weights
from regraft.core.rows import Rows
from regraft.engine.training import Training

Layout: TypeAlias = list[tuple[str, int, int]]
"""Where each feed's rows lie in a table: name, first, one past the last."""

Sums: TypeAlias = tuple[Tensor | float, Tensor | float]
"""Of values times their weights, and of the weights."""

Bill: TypeAlias = list[tuple[Tensor, Tensor]]
"""What a backward pass starts from: values of rows, and how much each of them counts, [rows]."""


def clipped(layout: Layout, start: int, stop: int) -> Layout:
    """The layout of the rows in [start, stop), counted from `start`."""
    return [(n, max(a, start) - start, min(b, stop) - start) for n, a, b in layout if a < stop and b > start]


class Processes:
    """One process: nothing to share. What each method means for several is said here; all of them call it together."""

    rank, size = 0, 1

    # --- rows

    def share(self, rows: Rows, layout: Layout) -> tuple[Rows, Layout]:
        """This process's rows of the step's batch: consecutive, and as many as any other process has."""
        return rows, layout

    def even(self, rows: Rows) -> tuple[Rows, int]:
        """This process's rows of a table, as many as any other process has, and how many of them are not repeated."""
        return rows, rows.count

    # --- numbers

    def totals(self, values: Sequence[Tensor | float]) -> Sequence[Tensor | float]:
        """Each value's sum over the processes."""
        return values

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, entry by entry."""
        return values

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """All rows of the whole batch, in its order, of which `values` are those read here, [rows] or [rows, ...]."""
        return torch.cat(list(values))

    def pooled(self, sums: Mapping[str, Sums], feeds: Sequence[str]) -> Mapping[str, Sums]:
        """Sums by feed over the processes; `feeds` are all names there can be."""
        return sums

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is so for any process; returns when all processes have come here."""
        return flags

    def collect(self, tree: Any) -> list[Any]:
        """The trees of all processes by rank, in the first one; an empty list in the others."""
        return [tree]

    def tell(self, value: Any) -> Any:
        """The first process's value, anything JSON, in all of them."""
        return value

    def local(self, device: str) -> str:
        """This process's own device of a kind: `cuda` is one of the machine's."""
        return device

    # --- the model while it trains

    def spread(self, model: Any, training: Training) -> None:
        """Prepares a model whose parameters to be trained are chosen; `restore` undoes it."""

    def restore(self, model: Any) -> None:
        """The model as it was before `spread`, whole in every process, with the weights it has now."""

    def reading(self, precision: AbstractContextManager[Any], last: bool) -> AbstractContextManager[Any]:
        """Around a forward pass; `last`: gradients are complete after its backward pass."""
        return precision

    def evaluating(self) -> AbstractContextManager[Any]:
        """Around a forward pass that is not learnt from."""
        return nullcontext()

    def bill(self, bill: Bill, view: View) -> Bill:
        """What this process's backward pass starts from, so that gradients are those of the sum over all processes."""
        return bill

    def full(self, tensor: Tensor) -> Tensor:
        """The whole of a tensor of which a process may hold a piece."""
        return tensor

    def piece(self, tensor: Tensor, like: Tensor) -> Tensor:
        """This process's piece of a whole tensor, cut as `like` is."""
        return tensor

    def weights(self, model: Any) -> Weights:
        """Effective weights, whole and differentiable."""
        weights: Weights = model.weights()
        return weights

    # --- state, independent of how many processes there are

    def state(self, model: Any) -> Mapping[str, Tensor]:
        """The model's whole state in the first process; nothing in the others."""
        state: Mapping[str, Tensor] = model.state()
        return state

    def gathered(self, tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """A tree of tensors made whole in the first process; nothing in the others."""
        return tree

    def load(self, model: Any, weights: Weights) -> None:
        """Copies whole weights into the model."""
        model.load(weights)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
        """Gives an optimizer a whole state."""
        optimizer.load_state_dict(dict(saved))
