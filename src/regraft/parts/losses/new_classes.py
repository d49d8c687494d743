"""The cross-entropy among the classes of the new rows: what a step says of other classes stays as it was.

    l_r = log sum_{c in C} e^{h_c} - (1 - smoothing) h_y - smoothing · mean_{c in C} h_c        y in C
    l_r = -log p(y | x_r), among all classes                                                    y not in C

C: the classes of the new rows. A head that all tasks share is learned by each task as if it were its own: neither the
classes known before nor those to come are pushed down. A row of another class, as replay reads it, counts among all.

Paper:   "Learning to Prompt for Continual Learning" Wang et al. 2022. https://arxiv.org/abs/2112.08654
Needs:   the rows named by `source`, with classes in column `y`.
Differs: the paper replays no rows and has the first line alone, which is not bounded below for a row of another class.
Tags:    class-incremental, calibration
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.classes import old_and_new


@dataclass(frozen=True)
class new_classes:
    smoothing: float = 0.0
    source: str = "new"

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise RegraftError(f"new_classes: smoothing is {self.smoothing}; it must be at least 0 and under 1")

    def begin(self, ctx: Context) -> _NewClasses:
        ctx.rows(self.source)
        _, new = old_and_new(ctx, self.source)
        return _NewClasses(self, new.to(ctx.models["student"].device))


class _NewClasses:
    def __init__(self, part: new_classes, new: Tensor) -> None:
        self.part, self.new = part, new

    def loss(self, view: View) -> Tensor:
        h, smoothing = view.logits, self.part.smoothing
        among = h[..., self.new]
        said = h.gather(-1, view.targets[..., None])[..., 0]
        if smoothing:
            said = (1 - smoothing) * said + smoothing * among.mean(-1)
        own = among.logsumexp(-1) - said
        return torch.where(torch.isin(view.targets, self.new), own, view.nll)

    def weight(self, view: View) -> Tensor | None:
        return None
