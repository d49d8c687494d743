"""Mean losses between two records of the curve, in all and by feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import Stateful
from regraft.engine.processes import Layout, Processes, Sums

_KEPT = 100


class Means(Stateful):
    """Weighted sums of a loss since the last record, in all and by feed.

    A step keeps its rows' values and does nothing else; they are summed up when a record is made, when the batch is
    laid out in another way, and after 100 steps.
    """

    state = ("sums", "layout", "values", "weights")

    def __init__(self) -> None:
        self.sums: dict[str, Sums] = {}
        self.layout: Layout = []
        self.values: list[Tensor] = []
        self.weights: list[Tensor] = []

    def add(self, values: Tensor, weight: Tensor | None, layout: Layout) -> None:
        alike = layout == self.layout and (weight is None) != bool(self.weights)
        if self.values and (not alike or len(self.values) == _KEPT):
            self.sums, self.values, self.weights = self._all(), [], []
        self.layout = layout
        self.values.append(values.detach())
        if weight is not None:
            self.weights.append(weight)

    def _all(self) -> dict[str, Sums]:
        if not self.values:
            return self.sums
        values, weights = torch.stack(self.values, 1), torch.stack(self.weights, 1) if self.weights else None
        weighted = values if weights is None else values.double() * weights
        sums = dict(self.sums)
        for feed, start, stop in self.layout:
            value = weighted[start:stop].sum(dtype=torch.float64)
            weight: Tensor | float = float(len(self.values) * (stop - start))
            if weights is not None:
                weight = weights[start:stop].sum(dtype=torch.float64)
            known = sums.get(feed)
            sums[feed] = (value, weight) if known is None else (known[0] + value, known[1] + weight)
        return sums

    def means(self, processes: Processes, feeds: Sequence[str]) -> dict[str, float]:
        """Mean by feed, and under the empty name over all feeds."""
        found = {f: (float(v), float(w)) for f, (v, w) in processes.pooled(self._all(), feeds).items()}
        if found:
            found[""] = sum(v for v, _ in found.values()), sum(w for _, w in found.values())
        return {feed: value / weight if weight else 0.0 for feed, (value, weight) in found.items()}

    def clear(self) -> None:
        self.sums, self.values, self.weights = {}, [], []

    def merge(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Takes on what other processes summed up."""
        for state in states:
            other = Means()
            other.load_state_dict(state)
            for feed, (value, weight) in other._all().items():
                mine = self.sums.get(feed, (0.0, 0.0))
                self.sums[feed] = mine[0] + value, mine[1] + weight
