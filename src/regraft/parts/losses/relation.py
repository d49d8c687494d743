"""Relation distillation: how near the rows lie to each earlier class's prototype stays as it was before the update.

    s_rc = cos(f_r, p_c) / T        q: the same by the model before
    l    = - sum_c sum_r q_r|c log s_r|c        over="rows": for each old class, a softmax over the rows
    l_r  = - sum_c q_c|r log s_c|r              over="classes": for each row, a softmax over the old classes

p_c: the head's weights of class c. Features and old prototypes both move, and the ranking is kept: without old rows the
prototypes follow the features.

Paper:   "Prototype-Sample Relation Distillation: Towards Replay-Free Continual Learning" Asadi et al. 2023.
         https://arxiv.org/abs/2303.14771
Needs:   a model with a head; classes of earlier updates that the rows named `source` lack: without any it is absent.
Differs: the paper takes the softmax over the rows; the authors' code over the classes of each earlier task by itself,
         of products with features that are not normalised. Here `rows` is the mean over the old classes, and `classes`
         is over all old classes together.
Tags:    distillation, prototypes, exemplar-free
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.classes import old_and_new
from regraft.numerics.features import headed


@dataclass(frozen=True)
class relation:
    T: float = 0.1
    over: Literal["rows", "classes"] = "rows"
    source: str = "new"

    def __post_init__(self) -> None:
        if not self.T > 0:
            raise RegraftError(f"relation: T is {self.T}; it must be over 0")
        if self.over not in ("rows", "classes"):
            raise RegraftError(f"relation: over is {self.over!r}; it must be 'rows' or 'classes'")

    def begin(self, ctx: Context) -> _Relation:
        headed(ctx.models["student"], "relation")
        old, _ = old_and_new(ctx, self.source)
        if len(old):
            ctx.models["before"]  # copied when it is asked for first
        return _Relation(self, old.to(ctx.models["student"].device))


class _Relation:
    def __init__(self, part: relation, old: Tensor) -> None:
        self.part, self.old = part, old

    def loss(self, view: View) -> Tensor:
        if not len(self.old):
            return view.logits.new_zeros(view.rows.count)
        dim = 0 if self.part.over == "rows" else 1
        s, q = self._near(view).log_softmax(dim), self._near(view.by("before")).softmax(dim)
        each = -(q * s)
        # Over rows, the pooled mean of what is given is the mean over classes of the sum over rows.
        return each.sum(1) if dim else each.mean(1) * len(each)

    def _near(self, view: View) -> Tensor:
        """Cosines over T, [rows, old classes]."""
        p = headed(view.model, "relation").head.weight[self.old]
        return F.normalize(view.features, dim=1) @ F.normalize(p, dim=1).T / self.part.T

    def weight(self, view: View) -> Tensor | None:
        return None
