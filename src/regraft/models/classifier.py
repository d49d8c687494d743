"""A classifier: any `nn.Module` that maps a batch of inputs to logits, the last layer of which is its head."""

from __future__ import annotations

from typing import cast

from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Out
from regraft.core.rows import Rows
from regraft.models.base import TorchModel, overheard


class Classifier(TorchModel):
    """Rows have inputs in column `x` [rows, ...] and classes in column `y` [rows], int64.

    Rows without `x` and with `features` [rows, width] are read by the head alone.

    Args:
        module: the network; called with `x`, gives logits [rows, classes].
        head: the last layer's name in the module; none: the last linear layer. Its input are the features.

    Raises RegraftError for a head that the module does not have, or that is no linear layer.
    """

    def __init__(self, module: nn.Module, *, head: str | None = None) -> None:
        super().__init__(nn.Sequential(module) if isinstance(module, nn.Linear) else module)
        linear = [name for name, layer in self.module.named_modules() if isinstance(layer, nn.Linear)]
        if head is not None and head not in linear:
            raise RegraftError(f"the module has no linear layer {head!r}; it has {linear}")
        self.head_name = head if head is not None else next(reversed(linear), None)

    @property
    def last_layer(self) -> nn.Module | None:
        return None if self.head_name is None else self.head

    @property
    def head(self) -> nn.Linear:
        """The last layer, weight [classes, width]."""
        if self.head_name is None:
            raise RegraftError("the classifier has no linear layer that could be its head")
        return cast(nn.Linear, self.module.get_submodule(self.head_name))

    def read(self, rows: Rows) -> Out:
        try:
            logits, features = overheard(
                self.last_layer, lambda: self.runner(rows["x"]) if "x" in rows else self.head(rows["features"])
            )
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise RegraftError("batch normalisation cannot train on one row", do="Use batches of two or more") from None
        return Out(logits, rows["y"], None, features)
