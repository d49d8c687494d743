"""A value head: a linear layer beside the last one says how much reward is still to come, at every place.

    V_t = v h_t + b        h_t: what the last layer reads; v = 0, b = 0 at first

It is learned with the network, by the loss `value`, and is no part of any version. `gae` makes advantages of it.

Paper:   "Proximal Policy Optimization Algorithms" Schulman et al. 2017. https://arxiv.org/abs/1707.06347
Needs:   a language model, or another whose last layer reads features.
Leaves:  `value_head`: v and b, with which the next update begins.
Differs: the value is a head on the policy's own network, as ReFT has it, not a network of its own.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.numerics.beside_head import BesideHead
from regraft.numerics.features import last_layer
from regraft.numerics.values import VALUE_HEAD


@dataclass(frozen=True)
class value_head:
    """`lr`: a factor on the learning rate of the head."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise RegraftError(f"value_head: lr is {self.lr}; it must be over 0")

    def begin(self, ctx: Context) -> _ValueHead:
        return _ValueHead(self, ctx)


class _ValueHead(BesideHead):
    key = VALUE_HEAD

    def __init__(self, part: value_head, ctx: Context) -> None:
        super().__init__(ctx)
        self.part = part

    def layer(self, model: Model) -> nn.Module:
        return last_layer(model, self.key)

    def make(self, width: int) -> nn.Module:
        head = nn.Linear(width, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def multiplier(self, slot: Slot) -> float:
        return self.part.lr if slot.role == self.key else 1.0
