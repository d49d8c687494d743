"""Half reset: a random half of the matrices goes back to what it was; the other half keeps what was learned.

    w <- M w + (1 - M) w_before        M: one bit a matrix, drawn as in `half`

Paper:   "HFT: Half Fine-Tuning for Large Language Models" Hui et al. 2024. https://arxiv.org/abs/2404.18466
Claim:   it gives back at least half of the old knowledge that full fine-tuning forgot.
Needs:   a model in the role `before`, or what the last reset left. Without either it changes nothing.
Leaves:  `half_reset`: the weights as they are now, which the next reset goes back to.
Tags:    weight editing, exemplar-free, language model
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.halves import Level, Rest, drawn
from regraft.numerics.tensors import on_cpu


@dataclass(frozen=True)
class half_reset:
    ratio: float = 0.5
    by: Level = "category"
    rest: tuple[Rest, ...] = ("embeddings", "norms", "head")

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise RegraftError(f"half_reset: the ratio that is kept is {self.ratio}; it must be in [0, 1]")

    def begin(self, ctx: Context) -> _HalfReset:
        return _HalfReset(self, ctx)


class _HalfReset:
    def __init__(self, part: half_reset, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.now: Weights = {}

    def edit(self, weights: Weights) -> Weights:
        part, ctx = self.part, self.ctx
        before: Weights = ctx.memory.get("half_reset", {})
        if "before" in ctx.models:
            before = ctx.models["before"].weights()
        kept = drawn(ctx.models["student"], part.ratio, part.by, part.rest, ctx.rng)
        changed = {name: before[name].to(w) for name, w in weights.items() if name in before and name not in kept}
        self.now = {**weights, **changed}
        return changed

    def leave(self) -> Mapping[str, Any]:
        return {"half_reset": on_cpu(self.now)}
