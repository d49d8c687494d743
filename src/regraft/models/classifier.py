"""A classifier: any `nn.Module` that maps a batch of inputs to logits, or a body with a head."""

from __future__ import annotations

from torch import Tensor, nn

from regraft.core.parts import Out
from regraft.core.rows import Rows
from regraft.models.base import TorchModel


class Classifier(TorchModel):
    """Rows have inputs in column `x` [rows, ...] and classes in column `y` [rows], int64.

    Args:
        module: the network; called with `x`, gives logits [rows, classes].
        head: the last layer's name in the module, when its input is wanted as `features`.
    """

    def __init__(self, module: nn.Module, *, head: str | None = None) -> None:
        super().__init__(module)
        self._features: Tensor | None = None
        if head is not None:
            module.get_submodule(head).register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def read(self, rows: Rows) -> Out:
        logits = self.runner(rows["x"])
        return Out(logits, rows["y"], None, self._features)

    def sizes(self, rows: Rows) -> Tensor | None:
        return None

    def cost(self, rows: Rows) -> int:
        return rows.count
