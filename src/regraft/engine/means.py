"""Mean losses between two records of the curve, in all and by feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import Stateful
from regraft.engine.processes import Layout, Processes


class Means(Stateful):
    """Weighted sums of a loss since the last record, in all and by feed.

    While the batch is laid out alike, one addition of the rows' values per step is all it costs; rows are told apart
    by feed when the layout changes or a record is made.
    """

    state = ("sums", "layout", "values", "weights", "steps")

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.layout: Layout = []
        self.values: Tensor | None = None
        self.weights: Tensor | None = None
        self.steps = 0

    def add(self, values: Tensor, weight: Tensor | None, layout: Layout) -> None:
        weighted = values.detach() if weight is None else values.detach() * weight
        if self.values is None or layout != self.layout or (weight is None) != (self.weights is None):
            self.sums = self._all()
            self.layout, self.values, self.weights, self.steps = layout, weighted, weight, 1
            return
        self.values = self.values + weighted
        self.weights = None if weight is None or self.weights is None else self.weights + weight
        self.steps += 1

    def _all(self) -> dict[str, Tensor]:
        if self.values is None:
            return self.sums
        sums = dict(self.sums)
        for feed, start, stop in self.layout:
            value, weights = self.values[start:stop].double().sum(), self.weights
            count = value.new_tensor(float((stop - start) * self.steps))
            each = count if weights is None else weights[start:stop].double().sum()
            sums[feed] = sums.get(feed, 0) + torch.stack([value, each])
        return sums

    def means(self, processes: Processes, feeds: Sequence[str]) -> dict[str, float]:
        """Mean by feed, and under the empty name over all feeds."""
        found = {feed: total.tolist() for feed, total in processes.pooled(self._all(), feeds).items()}
        if found:
            found[""] = [sum(v for v, _ in found.values()), sum(w for _, w in found.values())]
        return {feed: value / weight if weight else 0.0 for feed, (value, weight) in found.items()}

    def clear(self) -> None:
        self.sums, self.values, self.weights = {}, None, None

    def merge(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Takes on what other processes summed up."""
        for state in states:
            other = Means()
            other.load_state_dict(state)
            for feed, value in other._all().items():
                self.sums[feed] = self.sums.get(feed, 0) + value
