"""Squared error of what the model says: numbers of a regressor, or the logits of a classifier against the true class.

    l_r = mean_k (h_rk - y_rk)²        y: the targets; a class as 1 in its place and 0 elsewhere

Needs: a model of numbers (`Regressor`) or of classes.
"""

from torch import Tensor
from torch.nn import functional as F

from regraft.core.define import loss
from regraft.core.parts import View


@loss
def squared_error(view: View) -> Tensor:
    h, y = view.logits, view.targets
    if not y.is_floating_point():
        y = F.one_hot(y, h.shape[-1]).to(h.dtype)
    return (h - y).square().flatten(1).mean(1)
