"""Low-rank adaptation: what an update adds to a matrix has rank r; nothing else moves.

    W <- W + (alpha / r) B A        A [r, in] at random, B [out, r] = 0

and the sum is folded into W at the end. Penalties see the sum, so a penalty on weights holds what they have become.

Paper:   "LoRA: Low-Rank Adaptation of Large Language Models" Hu et al. 2022. https://arxiv.org/abs/2106.09685
Needs:   linear layers; `roles` says which are adapted, as in `numerics.roles`. None: all but the last.
Tags:    low rank, exemplar-free
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.places import put_over
from regraft.numerics.roles import linear_layers


@dataclass(frozen=True)
class lora:
    r: int = 8
    alpha: float = 16.0
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.r < 1:
            raise RegraftError(f"lora: r is {self.r}; it must be at least 1")

    def begin(self, ctx: Context) -> _Lora:
        return _Lora(self, ctx.rng)


class LowRank(nn.Module):
    """W -> W + scale · B A."""

    def __init__(self, W: Tensor, r: int, scale: float, dice: torch.Generator) -> None:
        super().__init__()
        out, width = W.shape
        bound = 1 / math.sqrt(width)
        self.A = nn.Parameter((torch.rand(r, width, generator=dice) * 2 - 1).mul(bound).to(W))
        self.B = nn.Parameter(torch.zeros(out, r).to(W))
        self.scale = scale

    def forward(self, W: Tensor) -> Tensor:
        return W + self.scale * (self.B @ self.A)


class _Lora:
    def __init__(self, part: lora, dice: torch.Generator) -> None:
        self.part, self.dice = part, dice
        self.layers: list[nn.Linear] = []

    def install(self, model: Model) -> None:
        others = {slot.name for slot in model.slots() if slot.kind == "adapter"}
        if self.part.roles:
            layers = linear_layers(model.module, self.part.roles, who="lora")
        else:
            layers = {name: layer for name, layer in model.module.named_modules() if isinstance(layer, nn.Linear)}
        linear = [layer for name, layer in layers.items() if f"{name}.weight" not in others]
        self.layers = linear if self.part.roles else linear[:-1]
        if not self.layers:
            raise RegraftError("lora: no linear layer is left to adapt beside those of other parts")
        for layer in self.layers:
            low = LowRank(layer.weight, self.part.r, self.part.alpha / self.part.r, self.dice)
            put_over(layer, "weight", low, who="lora")

    def multiplier(self, slot: Slot) -> float:
        return 1.0 if slot.kind == "adapter" else 0.0

    def fold(self, model: Model) -> None:
        for layer in self.layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        self.layers = []
