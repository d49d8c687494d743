"""A regressor: any `nn.Module` that maps a batch of inputs to numbers."""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.parts import Out
from regraft.core.rows import Rows
from regraft.models.base import TorchModel


class Regressor(TorchModel):
    """Rows have inputs in column `x` [rows, ...] and what is to be predicted in column `y` [rows, targets], float.

    What the network says is in `Out.logits`; it is learned by `squared_error`, and has no likelihood.
    """

    def read(self, rows: Rows) -> Out:
        said, y = self.runner(rows["x"]), rows["y"]
        if said.shape != y.shape:
            raise RegraftError(f"the network predicts {list(said.shape)}; column 'y' is {list(y.shape)}")
        return Out(said, y)
