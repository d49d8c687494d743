"""RegLoRA: an update keeps away from the entries that earlier updates changed most.

    D = W - W0                                                               W0: W when the update begins
    penalty = mean over matrices of mean over (i, j) in K of |D_ij|
    K <- K + the share M of the entries of D with the largest |D_ij|         after the update, for each matrix

D is what low-rank adaptation adds to a matrix, (alpha / r) B A, which is folded in before the next update begins anew.

Paper:   "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning" Chen et al.
         2025. https://arxiv.org/abs/2505.02486
Needs:   matrices that move, as by `lora`; those that stayed in an update hold nothing of it.
Leaves:  `reg_lora`: K, a bool matrix for each. Without it, in a first update, it is absent.
Differs: the reference code penalises and ranks B A without the factor alpha / r, and counts an entry twice that two
         updates changed.
Tags:    weight regularisation, low rank, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.tensors import largest


@dataclass(frozen=True)
class reg_lora:
    M: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.M <= 1:
            raise RegraftError(f"reg_lora: M is {self.M}; it must be over 0 and at most 1")

    def begin(self, ctx: Context) -> _RegLora:
        return _RegLora(self, ctx)


class _RegLora:
    def __init__(self, part: reg_lora, ctx: Context) -> None:
        self.part, self.student = part, ctx.models["student"]
        device, left = self.student.device, ctx.memory.get("reg_lora", {})
        self.K: dict[str, Tensor] = {name: at.to(device) for name, at in left.items()}
        self.W0 = {name: W.detach().clone() for name, W in self.student.weights().items() if W.dim() == 2}

    def penalty(self, weights: Weights) -> Tensor:
        held = [(weights[name] - self.W0[name])[at].abs().mean() for name, at in self.K.items() if name in self.W0]
        return torch.stack(held).mean() if held else torch.zeros(())

    def leave(self) -> Mapping[str, Any]:
        K = {name: at.cpu() for name, at in self.K.items()}
        now, moved = self.student.weights(), False
        for name, W0 in self.W0.items():
            D = (now[name].detach() - W0).abs()
            if not bool(D.any()):
                continue
            moved = True
            if count := int(self.part.M * D.numel()):
                top = largest(D, count).cpu()
                K[name] = K[name] | top if name in K else top
        if moved and not K:
            raise RegraftError(f"reg_lora: a share of {self.part.M:g} is no entry of any matrix", do="Raise M")
        return {"reg_lora": K}
