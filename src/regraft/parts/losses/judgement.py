"""Judging: how a language model is taught to say of what it has read that it is right, or that it is wrong.

    l_r = -(1 / n_r) sum_t c_rt [ a_rt log p_rt + (1 - a_rt) log(1 - p_rt) ]        n_r = sum_t c_rt
    p   = P("+") / (P("+") + P("-"))                                               after place t

a: what is told of place t, 1 right, 0 wrong, or in between; c: of which places something is told. Told after every step
it makes a process reward model, of the whole answer an outcome reward model; of both, the paper's OPRM.

Paper:   "Easy-to-Hard Generalization: Scalable Alignment Beyond Human Supervision" Sun et al. 2024.
         https://arxiv.org/abs/2403.09472
Needs:   rows as `numerics.steps.judged` makes them: a column `told`, a; a language model with a tokenizer.
Differs: two tokens of the language model are the judge, as in Math-Shepherd; the paper's has a linear head.
Tags:    language model
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from regraft.core.define import loss
from regraft.core.parts import View
from regraft.numerics.steps import leads
from regraft.numerics.token_loss import check_per, column, summed


@loss
def judgement(view: View, *, per: Literal["row", "token"] = "token") -> Tensor:
    check_per(per, "judgement")
    lead = leads(view)
    each = F.binary_cross_entropy_with_logits(lead, column(view, "told", lead), reduction="none")
    return summed(each, column(view, "counts", lead), per)
