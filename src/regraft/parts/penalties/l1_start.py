"""The weights stay near where the update began, in most entries exactly: L1 of what it changes.

    penalty = 1/N sum_i |w_i - w0_i|        w0: the weights when the update begins, N: how many there are

Paper:   "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" Ansell et al. 2022. https://arxiv.org/abs/2110.07560
Tags:    weight regularisation, sparse, exemplar-free
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.parts import Context, Weights


@dataclass(frozen=True)
class l1_start:
    def begin(self, ctx: Context) -> _L1Start:
        return _L1Start(ctx.models["student"].weights())


class _L1Start:
    def __init__(self, weights: Weights) -> None:
        self.start = {name: w.detach().clone() for name, w in weights.items() if w.is_floating_point()}
        self.N = sum(w.numel() for w in self.start.values())

    def penalty(self, weights: Weights) -> Tensor:
        return torch.stack([(weights[name] - w).abs().sum() for name, w in self.start.items()]).sum() / self.N
