"""SubNet tuning: later updates move the weights that matter least, and no others.

    M = the K share of entries of least |w|, in each matrix or kernel        step(w) <- M · step(w)

M is chosen once, when the part first begins, and kept: what an update learned in it may be overwritten by the next, all
else stays as it was. The head, biases and normalisation do not move, and what normalisation layers remember does not.

Paper:   "A Bag of Tricks for Few-Shot Class-Incremental Learning" Roy et al. 2024. https://arxiv.org/abs/2403.14392
Paper:   "On the Soft-Subnetwork for Few-shot Class Incremental Learning" Kang et al. 2022.
         https://arxiv.org/abs/2209.07529
Needs:   a model with a head, which something else writes.
Leaves:  `subnet`: M, by tensor.
Differs: soft subnetworks are found by scores that are learned in the base session, and their entries scaled; magnitude
         needs neither.
Tags:    sparse, few-shot, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.features import head_name
from regraft.numerics.tensors import buffers, largest


@dataclass(frozen=True)
class subnet:
    K: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.K <= 1:
            raise RegraftError(f"subnet: K is {self.K}; it is a part of all entries, over 0 and at most 1")

    def begin(self, ctx: Context) -> _SubNet:
        return _SubNet(self, ctx)


class _SubNet:
    def __init__(self, part: subnet, ctx: Context) -> None:
        student = ctx.models["student"]
        head = f"{head_name(student, 'subnet')}."
        self.M: Mapping[str, Tensor] = ctx.memory.get("subnet") or {
            slot.name: least(slot.tensor.detach(), part.K).cpu()
            for slot in student.slots()
            if slot.tensor.dim() > 1 and not slot.name.startswith(head)
        }

    def install(self, model: Model) -> None:
        self.kept = buffers(model)

    def multiplier(self, slot: Slot) -> float | Tensor:
        return self.M[slot.name].to(slot.tensor) if slot.name in self.M else 0.0

    def fold(self, model: Model) -> None:
        model.load(self.kept)

    def leave(self) -> Mapping[str, Any]:
        return {"subnet": dict(self.M)}


def least(w: Tensor, share: float) -> Tensor:
    """Which entries are the share of least magnitude, one at least."""
    return largest(-w.abs(), max(1, round(share * w.numel())))
