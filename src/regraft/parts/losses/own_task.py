"""The cross-entropy among the classes of a row's own task: what to learn where tests say of which task they are.

    l_r = -log( e^{h_y} / sum_{c in C(t_r)} e^{h_c} )        C(t): the classes of task t

One head a task, as columns of one layer: a step on a task does not move the outputs of another.

Paper:   "Three types of incremental learning" van de Ven et al. 2022. https://arxiv.org/abs/1904.07734
Needs:   the rows' column `task`; `told` in memory, which classes each task has.
Tags:    task-incremental
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View


@dataclass(frozen=True)
class own_task:
    def begin(self, ctx: Context) -> _OwnTask:
        if "told" not in ctx.memory:
            raise RegraftError("own_task: the memory does not say which classes each task has (`told`)")
        return _OwnTask(ctx.memory["told"])


class _OwnTask:
    def __init__(self, told: Tensor) -> None:
        self.told = told

    def loss(self, view: View) -> Tensor:
        h = view.logits
        others = ~self.told.to(h.device)[view.rows["task"]]
        return F.cross_entropy(h.masked_fill(others, -torch.inf), view.targets, reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
