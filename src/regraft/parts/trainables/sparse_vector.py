"""Sparse fine-tuning: only the entries of a lottery ticket move, and what they moved by is kept beside the weights.

    phi = mu (w2 - w0)        w <- w0

The network is left as it was found. `add_sparse` adds such vectors to it, as many as wanted: they rarely meet.

Paper:   "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" Ansell et al. 2022. https://arxiv.org/abs/2110.07560
Claim:   a task's vector and a language's, learned apart, answer the task in that language, where it had no labels.
Needs:   `ticket` in memory, which the trainable of that name leaves. A vector is called `name`; none: the number of the
         task, where the rows named `source` say it, or else how many vectors there are.
Leaves:  `sparse_vectors`: by name and tensor, the places and the values of phi.
Differs: the head's change is a vector too, of all its entries; the authors store the head whole. The claim's
         languages share 4 words in 20 of each tag; where they share 2, two seeds gained 2 and 14 points.
Tags:    sparse, composable, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.classes import task_of


@dataclass(frozen=True)
class sparse_vector:
    name: str | None = None
    source: str = "new"

    def begin(self, ctx: Context) -> _SparseVector:
        return _SparseVector(self, ctx)


class _SparseVector:
    def __init__(self, part: sparse_vector, ctx: Context) -> None:
        self.model = ctx.models["student"]
        self.mu: Mapping[str, Tensor] = ctx.memory.get("ticket", {})
        self.vectors: Mapping[str, Any] = ctx.memory.get("sparse_vectors", {})
        self.name = part.name
        if self.name is None:
            task = task_of(ctx, part.source, "sparse_vector")
            self.name = str(len(self.vectors) if task is None else task)

    def install(self, model: Model) -> None:
        if not self.mu:
            raise RegraftError("sparse_vector: no ticket is in memory", do="Train with the trainable `ticket` first")
        self.start = {name: tensor.clone() for name, tensor in model.state().items()}

    def multiplier(self, slot: Slot) -> float | Tensor:
        mask = self.mu.get(slot.name)
        if mask is None or not mask.any():
            return 0.0
        return 1.0 if mask.all() else mask.to(slot.tensor)

    def leave(self) -> Mapping[str, Any]:
        phi = {}
        for slot in self.model.slots():
            at = self.mu.get(slot.name, slot.tensor.new_zeros(0)).flatten().nonzero()[:, 0].cpu()
            if len(at):
                by = (slot.tensor.detach() - self.start[slot.name]).flatten().cpu()[at]
                phi[slot.name] = {"at": at, "by": by}
        return {"ticket": {}, "sparse_vectors": {**self.vectors, self.name: phi}}

    def fold(self, model: Model) -> None:
        left = model.state().keys()
        model.load({name: tensor for name, tensor in self.start.items() if name in left})
