"""Negative log-likelihood of the targets: the next token of a text, the class of an input.

    l_r = - sum_i c_ri log p(y_ri | x_r) / sum_i c_ri        pooled over tokens (`per="token"`) or rows (`per="row"`)

Tags: language model
"""

from typing import Literal

from torch import Tensor

from regraft.core.define import loss
from regraft.core.parts import View


@loss
def nll(view: View, *, per: Literal["token", "row"] = "token") -> Tensor:
    return view.nll
