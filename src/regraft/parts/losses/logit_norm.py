"""Cross-entropy of logits that all have one length, among the classes seen so far.

    l_r = -log( e^{z_y} / sum_{c in C} e^{z_c} )        z = h_C / (tau · ||h_C||)
    C: the classes of earlier updates and of this one's new rows

The direction of h_C is learned and not its length: a head that is trained for long does not come to answer ever more
loudly.

Paper:   "Mitigating Neural Network Overconfidence with Logit Normalization" Wei et al. 2022.
         https://arxiv.org/abs/2205.09310
Paper:   "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" Zhang et al. 2023.
         https://arxiv.org/abs/2303.05118
Needs:   the rows named by `source`, with classes in column `y`; `classes` in memory for those of earlier updates.
Differs: the code of SLCA divides by the mean, over tasks, of the length of each task's own logits.
Tags:    class-incremental, calibration
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.numerics.classes import old_and_new


@dataclass(frozen=True)
class logit_norm:
    tau: float = 0.1
    source: str = "new"

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise RegraftError(f"logit_norm: tau is {self.tau}; it must be over 0")

    def begin(self, ctx: Context) -> _LogitNorm:
        ctx.rows(self.source)
        C = torch.cat(old_and_new(ctx, self.source)).sort().values
        return _LogitNorm(self.tau, C.to(ctx.models["student"].device))


class _LogitNorm:
    def __init__(self, tau: float, C: Tensor) -> None:
        self.tau, self.C = tau, C

    def loss(self, view: View) -> Tensor:
        z = F.normalize(view.logits[:, self.C], dim=-1) / self.tau
        return F.cross_entropy(z, torch.searchsorted(self.C, view.targets), reduction="none")

    def weight(self, view: View) -> Tensor | None:
        return None
