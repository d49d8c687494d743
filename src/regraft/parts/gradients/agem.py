"""A-GEM: a step may not raise the loss on the memory, to first order.

    g <- g - (g·r / r·r) r    where g·r < 0        r: the gradient on rows drawn from the memory

Paper:   "Efficient Lifelong Learning with A-GEM" Chaudhry et al. 2019. https://arxiv.org/abs/1812.00420
Claim:   forgets less than plain training where tasks share their classes, at equal updates.
Needs:   `memory`, a sampler of old rows such as `reservoir`; where it has none yet the gradient passes through.
Tags:    replay, gradient projection
"""

from __future__ import annotations

from dataclasses import dataclass

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, Sampler, SamplerRun


@dataclass(frozen=True)
class agem:
    memory: Sampler
    loss: Loss
    rows: int = 64

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise RegraftError(f"agem: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _AGEM:
        return _AGEM(self, ctx, ctx.begin(self.memory))


class _AGEM:
    def __init__(self, part: agem, ctx: Context, memory: SamplerRun) -> None:
        self.part, self.ctx, self.memory = part, ctx, memory

    def update(self, grads: Grads) -> Grads:
        rows = self.memory.draw(self.part.rows)
        if not rows.count:
            return grads
        r = self.ctx.gradient(rows, self.part.loss)
        dot = sum(float((g * r[name]).sum()) for name, g in grads.items() if name in r)
        if dot >= 0:
            return grads
        size = sum(float(value.square().sum()) for value in r.values())
        return {name: g - dot / size * r[name] if name in r else g for name, g in grads.items()}
