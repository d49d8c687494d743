"""Several answers that are all right: the likelihood that one of them is said, or of each.

    l_r = -(1 / beta) log sum_i p(y_i | x)^beta                      beta = 1: MML;   beta between 0 and 1: beta-MML
    beta = 0:   l_r = -(1 / n) sum_i log p(y_i | x)                  MLE-Aug, whose gradient is the limit of the others'

The gradient of answer i counts p_i^beta / sum_j p_j^beta: with beta = 1 what is likely already is made likelier, with 0
all alike.

Paper:   "Learning Math Reasoning from Self-Sampled Correct and Partially-Correct Solutions" Ni et al. 2023.
         https://arxiv.org/abs/2205.14318
Needs:   rows that hold the answers to a question, as `numerics.answer_sets` makes them: a column `member`.
Differs: beta = 0 is the mean over a question's answers (`mle_aug_norm` of the authors' code), so that questions count
         alike; their default is the sum.
Tags:    self-training, language model
"""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.define import loss
from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.numerics.token_loss import column, said


@loss
def marginal(view: View, *, beta: float = 0.0) -> Tensor:
    if not 0 <= beta <= 1:
        raise RegraftError(f"marginal: beta is {beta}; it must be from 0 to 1")
    log_pi, c = said(view)
    member = column(view, "member", log_pi).long()
    inside = (member >= 0) & (c > 0)
    shape = len(member), int(member.max()) + 2
    log_p = log_pi.new_zeros(shape).scatter_add(1, member + 1, log_pi * c * inside)[:, 1:]
    there = torch.zeros_like(log_p).scatter_add(1, member.clamp(min=0), c * inside) > 0 if shape[1] > 1 else log_p > 0
    if not beta:
        return -log_p.sum(1) / there.sum(1).clamp(min=1)
    some = there.any(1)
    most = (beta * log_p).masked_fill(~there & some[:, None], -torch.inf)
    return -(most.logsumexp(1) / beta if shape[1] > 1 else log_p.sum(1)) * some
