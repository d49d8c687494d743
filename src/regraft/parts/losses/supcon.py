"""Supervised contrastive loss: rows of one class, and views of one row, lie close to each other and far from the rest.

    l_i = -1/|P_i| sum_{p in P_i} log( e^{z_i·z_p / T} / sum_{a != i} e^{z_i·z_a / T} )        z = g(f) / ||g(f)||

P_i: the other rows of row i's class in the forward pass, f: features, g: a perceptron of one hidden layer, as wide as
the features, that is learned with the network where this part is among the plan's trainables too; else z = f / ||f||.
The head is not taught. With two views of each row (`view_batch`) no row is without another of its class.

Paper:   "Supervised Contrastive Learning" Khosla et al. 2020. https://arxiv.org/abs/2004.11362
Paper:   "Prototype-Sample Relation Distillation: Towards Replay-Free Continual Learning" Asadi et al. 2023.
         https://arxiv.org/abs/2303.14771
Needs:   a model with a head; classes as targets. A row that has no other of its class in the forward pass counts
         nothing, so micro-batches make it another objective.
Leaves:  `supcon`: g.
Differs: without the factor T / 0.07 of the authors' code, which scales the learning rate.
Tags:    representation
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.beside_head import BesideHead


@dataclass(frozen=True)
class supcon:
    """`width`: numbers that g gives."""

    T: float = 0.1
    width: int = 128

    def __post_init__(self) -> None:
        if not self.T > 0 or self.width < 1:
            raise RegraftError(
                f"supcon: T is {self.T} and the width {self.width}; T must be over 0, the width at least 1"
            )

    def begin(self, ctx: Context) -> _SupCon:
        return _SupCon(self, ctx)


class _SupCon(BesideHead):
    key = "supcon"

    def __init__(self, part: supcon, ctx: Context) -> None:
        super().__init__(ctx)
        self.part = part

    def make(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.part.width))

    def loss(self, view: View) -> Tensor:
        z = F.normalize(self.beside(view.features), dim=1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        s = (z @ z.T / self.part.T).masked_fill(itself, torch.finfo(z.dtype).min)
        alike = _alike(view.targets)
        log_p = (s - s.logsumexp(1, keepdim=True)).masked_fill(~alike, 0.0)
        return -log_p.sum(1) / alike.sum(1).clamp(min=1)

    def weight(self, view: View) -> Tensor:
        return _alike(view.rows["y"]).any(1).to(torch.get_default_dtype())


def _alike(y: Tensor) -> Tensor:
    """Which rows are other rows of one class, bool [rows, rows]."""
    return (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool, device=y.device)
