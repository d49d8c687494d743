"""The cross-entropy of cosines: rows teach directions, and leave the lengths of the head's rows alone.

    l_r = -log( e^{s cos(w_y, z_r)} / sum_c e^{s cos(w_c, z_r)} )        cos(w, z) = w·z / (||w|| ||z||)

w_c: the head's weights of class c, z: the features. A logit w·z is an angle and two lengths. UER lets new rows move the
angle alone, and the rows of a memory, by the ordinary cross-entropy, the lengths too: there the balance between old and
new classes is kept. Answers are the ordinary logits.

Paper:   "UER: A Heuristic Bias Addressing Approach for Online Continual Learning" Lin et al. 2023.
         https://arxiv.org/abs/2309.04081
Needs:   a model with a linear layer as its head; its bias is left alone.
Tags:    class-incremental, online
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.features import headed


@dataclass(frozen=True)
class cosine:
    s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.s < float("inf"):
            raise RegraftError(f"cosine: s is {self.s}; it must be over 0")

    def begin(self, ctx: Context) -> _Cosine:
        headed(ctx.models["student"], "cosine")
        return _Cosine(self.s)


class _Cosine:
    def __init__(self, s: float) -> None:
        self.s = s

    def loss(self, view: View) -> Tensor:
        p = headed(view.model, "cosine").head.weight
        cosines = F.normalize(view.features, dim=-1) @ F.normalize(p, dim=-1).T
        return F.cross_entropy(self.s * cosines, view.targets, reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
