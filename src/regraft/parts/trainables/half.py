"""Half fine-tuning: a random half of the matrices moves, the other keeps its values; another half in every update.

    min L(w)  subject to  (1 - M)(w - w_before) = 0        M: one bit a matrix

By `category` it is half of every block of every layer: 2 of Q, K, V, O; of gate, up, down 2 in half of the layers and 1
in the others. A network without layers is one block. What is held needs no gradient and no state of the optimizer.

Paper:   "HFT: Half Fine-Tuning for Large Language Models" Hui et al. 2024. https://arxiv.org/abs/2404.18466
Claim:   after new skills it knows more of what it knew before than full fine-tuning, and has learned them as well.
Needs:   `rest` names what moves in every update: embeddings, norms, the head.
Leaves:  `half`: how many updates there were, and which matrices this one moved.
Differs: halves that do not come out even are rounded up.
Tags:    parameter isolation, exemplar-free, language model, continual fine-tuning
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.dice import of_update
from regraft.numerics.halves import Level, Rest, drawn


@dataclass(frozen=True)
class half:
    ratio: float = 0.5
    by: Level = "category"
    rest: tuple[Rest, ...] = ("embeddings", "norms", "head")

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise RegraftError(f"half: the ratio is {self.ratio}; it must be over 0 and at most 1")

    def begin(self, ctx: Context) -> _Half:
        return _Half(self, ctx)


class _Half:
    def __init__(self, part: half, ctx: Context) -> None:
        self.part = part
        self.updates = ctx.memory.get("half", {"updates": 0})["updates"]
        self.dice = of_update(ctx.rng, self.updates)
        self.moved: set[str] = set()

    def install(self, model: Model) -> None:
        self.moved = drawn(model, self.part.ratio, self.part.by, self.part.rest, self.dice)

    def multiplier(self, slot: Slot) -> float:
        return 1.0 if slot.kind == "adapter" or slot.name in self.moved else 0.0

    def fold(self, model: Model) -> None:
        pass

    def leave(self) -> Mapping[str, Any]:
        return {"half": {"updates": self.updates + 1, "moved": sorted(self.moved)}}
