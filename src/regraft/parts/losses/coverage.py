"""Direct coverage optimisation: how likely N tries contain the answer, so that confidence is not driven past 1 / N.

    l_r = -log(1 - (1 - p_r)^N)        p_r = prod_t pi(y_rt)^c_rt: the probability of the whole answer

The gradient is that of cross-entropy, times N p (1 - p)^(N - 1) / (1 - (1 - p)^N): about 1 while p is well under 1 / N,
and about 0 once it is well over. N = 1 is the cross-entropy of the whole answer.

Paper: "Rethinking Fine-Tuning when Scaling Test-Time Compute: Limiting Confidence Improves Mathematical Reasoning"
       Chen et al. 2025. https://arxiv.org/abs/2502.07154
Claim: after many passes N tries find more than with cross-entropy, with which they find less than on the way; one try
       finds no more.
Needs: rows that hold one answer each.
Tags:  continual fine-tuning, language model
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regraft.core.define import loss
from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.numerics.token_loss import said

_TINY = -60.0
"""Under it 1 - (1 - p)^N is N p, and p is soon too small for float32."""


@loss
def coverage(view: View, *, N: int = 16) -> Tensor:
    if N < 1:
        raise RegraftError(f"coverage: N is {N}; it must be 1 or more")
    log_pi, c = said(view)
    log_p = (log_pi * c).sum(1)
    if N == 1:
        return -log_p
    tiny = log_p < _TINY
    p = torch.where(tiny, -1.0, log_p).exp().clamp(max=1 - torch.finfo(log_p.dtype).eps)
    return -torch.where(tiny, log_p + math.log(N), torch.log(-torch.expm1(N * torch.log1p(-p))))
