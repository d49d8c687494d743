"""Adds sparse vectors to the weights they were learned from, or to others.

    w <- w + sum_j phi_j        summed in float64 in the order of their names: how they are given makes no difference

Paper:   "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" Ansell et al. 2022. https://arxiv.org/abs/2110.07560
Needs:   `sparse_vectors` in memory, as `sparse_vector` leaves them; `of` names those to add, none: all.
Tags:    sparse, composable, weight editing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError, nearest
from regraft.core.parts import Context, Weights


@dataclass(frozen=True)
class add_sparse:
    of: tuple[str, ...] = ()

    def begin(self, ctx: Context) -> _AddSparse:
        vectors = ctx.memory.get("sparse_vectors", {})
        if not vectors:
            raise RegraftError("add_sparse: no sparse vectors are in memory", do="Train with `sparse_vector` first")
        if unknown := next((name for name in self.of if name not in vectors), None):
            raise RegraftError(f"add_sparse: there is no vector {unknown!r}{nearest(unknown, vectors)}")
        return _AddSparse([vectors[name] for name in sorted(set(self.of) or vectors)])


class _AddSparse:
    def __init__(self, vectors: list[Mapping[str, Any]]) -> None:
        self.vectors = vectors

    def edit(self, weights: Weights) -> Weights:
        sums: dict[str, Tensor] = {}
        for phi in self.vectors:
            for name, part in phi.items():
                if name not in weights:
                    raise RegraftError(f"add_sparse: the model has no tensor {name!r}")
                w = weights[name]
                total = sums.setdefault(name, torch.zeros(w.numel(), dtype=torch.float64, device=w.device))
                total.index_add_(0, part["at"].to(w.device), part["by"].to(total))
        return {name: (weights[name].double() + s.view_as(weights[name])).to(weights[name]) for name, s in sums.items()}
