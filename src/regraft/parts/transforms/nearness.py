"""A reward for staying near another model: minus an estimate of the divergence from it, in nats.

    R_r = -(log pi(y_r) - log pi_ref(y_r))        its mean over what pi writes: -KL(pi || pi_ref)

Paper: "Confronting Reward Model Overoptimization with Constrained RLHF" Moskovitz et al. 2023.
       https://arxiv.org/abs/2310.04373
Needs: rows as rollouts have them; a model in the role `reference`.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.token_loss import log_probs_of


@transform
def nearness(rows: Rows, ctx: Context, *, reference: str = "before", temperature: float = 1.0) -> Rows:
    if reference not in ctx.models:
        raise RegraftError(f"nearness: no model in the role {reference!r}; there are {sorted(ctx.models)}")
    theirs = log_probs_of(ctx.models[reference], rows, temperature=temperature).sum(1)
    return rows.having(reward=rows["surprise"] + theirs)
