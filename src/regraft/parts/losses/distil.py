"""Distillation: answer as a teacher does, an older self or what was stored with the rows. One loss for LwF and DER.

    l_r = D_Phi(h_r, z_r)        Phi = sum p log p (`by="kl"`):   T² · KL(softmax(z / T) || softmax(h / T))
                                 Phi = ||.||² / C (`by="mse"`):   ||h - z||² / C

h: the model's logits, z: the teacher's, C: classes. Where rows say of which task they are, the classes known before are
compared task by task, and l_r is the sum. LwF is `distil()` on the new rows with classes known before; DER is
`distil(by="mse", of="logits")` on a memory that keeps logits, and DER++ adds their labels.

Paper:   "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Paper:   "Learning without Forgetting" Li and Hoiem 2016. https://arxiv.org/abs/1606.09282
Paper:   "Dark Experience for General Continual Learning: a Strong, Simple Baseline" Buzzega et al. 2020.
         https://arxiv.org/abs/2004.07211
Claim:   DER++, which adds it to the replay of labels, has a higher accuracy and forgets less than ER, at equal memory
         and updates.
Needs:   a model in the role `of` (`before` is always there), or rows with a column `of` of logits. With
         `classes="known"` it reads the logits of the classes of earlier updates; without any it is absent.
Tags:    distillation, task-free
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View


@dataclass(frozen=True)
class distil:
    of: str = "before"
    by: Literal["kl", "mse"] = "kl"
    T: float = 2.0
    classes: Literal["all", "known"] = "all"

    def __post_init__(self) -> None:
        if self.by not in ("kl", "mse"):
            raise RegraftError(f"distil: by is {self.by!r}; it must be 'kl' or 'mse'")
        if self.classes not in ("all", "known"):
            raise RegraftError(f"distil: classes is {self.classes!r}; it must be 'all' or 'known'")
        if not self.T > 0:
            raise RegraftError(f"distil: T is {self.T}; it must be over 0")

    def begin(self, ctx: Context) -> _Distil:
        groups = None if self.classes == "all" else _known(ctx)
        if groups != [] and self.of in ctx.models:
            ctx.models[self.of]  # `before` is copied when it is asked for first
        return _Distil(self, groups)


def _known(ctx: Context) -> list[Tensor]:
    """The classes of earlier updates: together, or those of each task."""
    student = ctx.models["student"]
    known, tasks = ctx.memory.get("classes", torch.empty(0, dtype=torch.long)), student.task_classes
    if tasks is None or not len(known):
        return [known.to(student.device)] if len(known) else []
    learned = torch.zeros(tasks.shape[1], dtype=torch.bool, device=tasks.device)
    learned[known.to(tasks.device)] = True
    return [its.nonzero()[:, 0] for its in tasks[~(tasks & ~learned).any(1)].unique(dim=0)]


class _Distil:
    def __init__(self, part: distil, groups: list[Tensor] | None) -> None:
        self.part, self.groups = part, groups

    def loss(self, view: View) -> Tensor:
        h = view.logits
        if self.groups == []:
            return h.new_zeros(len(h))
        z = view.rows[self.part.of] if self.part.of in view.rows else view.by(self.part.of).logits
        if self.groups is None:
            each = self._between(h, z)
        else:
            each = torch.stack([self._between(h[..., its], z[..., its]) for its in self.groups]).sum(0)
        if each.dim() == 1:
            return each
        counts = view.out.counts
        if counts is None:
            return each.flatten(1).mean(1)
        return (each * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1e-12)

    def _between(self, h: Tensor, z: Tensor) -> Tensor:
        """D_Phi over the last axis."""
        if self.part.by == "mse":
            return (h - z).square().mean(-1)
        T = self.part.T
        each = F.kl_div((h / T).log_softmax(-1), (z / T).log_softmax(-1), log_target=True, reduction="none")
        return T * T * each.sum(-1)

    def weight(self, view: View) -> Tensor | None:
        return view.size
