"""Lottery ticket: trains everything, keeps the places of the entries that moved farthest, and rewinds the weights.

    mu = the K N entries of largest |w1 - w0|        w <- w0

Which entries those are is chosen over all tensors together; every entry of the head is one. `sparse_vector` then trains
them alone.

Paper:   "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" Ansell et al. 2022. https://arxiv.org/abs/2110.07560
Leaves:  `ticket`: mu, by tensor.
Tags:    sparse
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.features import head_if_any
from regraft.numerics.tensors import largest


@dataclass(frozen=True)
class ticket:
    K: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.K <= 1:
            raise RegraftError(f"ticket: K is {self.K}; it is a part of all entries, over 0 and at most 1")

    def begin(self, ctx: Context) -> _Ticket:
        return _Ticket(self, ctx.models["student"])


class _Ticket:
    def __init__(self, part: ticket, model: Model) -> None:
        self.part, self.model = part, model

        head = head_if_any(model)
        self.body = [slot.name for slot in model.slots() if head is None or slot.name.rpartition(".")[0] != head]
        if not self.body:
            raise RegraftError("ticket: the network is a head alone, with nothing to choose entries of")

    def install(self, model: Model) -> None:
        self.start = {name: tensor.clone() for name, tensor in model.state().items()}

    def multiplier(self, slot: Slot) -> float:
        return 1.0

    def leave(self) -> Mapping[str, Any]:
        weights = {slot.name: slot.tensor.detach() for slot in self.model.slots()}
        moved = torch.cat([(weights[name] - self.start[name]).abs().flatten() for name in self.body])
        chosen = largest(moved, max(1, round(self.part.K * len(moved))))
        parts = chosen.split([weights[name].numel() for name in self.body])
        mu = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
        mu |= {name: part.view_as(weights[name]) for name, part in zip(self.body, parts, strict=True)}
        return {"ticket": {name: mask.cpu() for name, mask in mu.items()}}

    def fold(self, model: Model) -> None:
        model.load(self.start)
