"""A module beside the head: it reads what the head reads, learns with the network, and is no part of any version.

Between updates it is in memory, and the network is the plain one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.parts import Context, Model, Slot
from regraft.numerics.dice import seeded
from regraft.numerics.features import headed
from regraft.numerics.tensors import on_cpu


class BesideHead(ABC):
    """A trainable at work that puts in such a module. A method says which, and what is done with what it gives.

    Where the plan does not have the part among its trainables, there is none: `beside` gives the features themselves.
    """

    key: str
    """Its name in memory and in the network."""

    def __init__(self, ctx: Context) -> None:
        self.layer(ctx.models["student"])
        self.left: Mapping[str, Tensor] = ctx.memory.get(self.key, {})
        self.dice = ctx.rng
        self.module: nn.Module | None = None

    def layer(self, model: Model) -> nn.Module:
        """What the module is put beside: the head, or an error where there is none."""
        return headed(model, self.key).head

    @abstractmethod
    def make(self, width: int) -> nn.Module:
        """The module as it begins, for features of this width."""

    def beside(self, features: Tensor) -> Tensor:
        """What the module gives for the features."""
        if self.module is None:
            return features
        given: Tensor = self.module(features)
        return given

    def install(self, model: Model) -> None:
        layer: Any = self.layer(model)
        with seeded(int(torch.randint(2**62, (1,), generator=self.dice))):
            module = self.make(layer.in_features).to(layer.weight)
        if self.left:
            module.load_state_dict(dict(self.left))
        layer.add_module(self.key, module)
        self.module = module

    def multiplier(self, slot: Slot) -> float:
        return 1.0

    def leave(self) -> Mapping[str, Any]:
        if self.module is None:
            return {}
        return {self.key: on_cpu(self.module.state_dict())}

    def fold(self, model: Model) -> None:
        delattr(self.layer(model), self.key)
        self.module = None
