"""Generalised advantages of tokens: how much better each was than a value head expected, and what follows discounted.

    r_t     = -beta (log pi(y_t) - log pi_ref(y_t)) + [t is the last token] R
    delta_t = r_t + gamma V_{t+1} - V_t        V after the last token: 0
    A_t     = sum_l (gamma lam)^l delta_{t+l}        returns_t = A_t + V_t
    A_t    <- (A_t - mean A) / std A                 over all tokens that were written at once, with `whiten`

lam = 1: what came (discounted) minus what was expected; lam = 0: one step ahead. With policy_gradient() and value() it
is PPO; gamma = lam = 1, beta = 0, whiten=False and a value that stays 0: REINFORCE. Tokens that do not count (c = 0)
are as if they were not there.

Paper:   "High-Dimensional Continuous Control Using Generalized Advantage Estimation" Schulman et al. 2015.
         https://arxiv.org/abs/1506.02438
Paper:   "Proximal Policy Optimization Algorithms" Schulman et al. 2017. https://arxiv.org/abs/1707.06347
Needs:   among the transforms of `rollouts`, after one that gives a `reward`; `value_head` among the trainables of the
         plan; with `beta` a model in the role `reference`, or a reference that moves.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Reference, View
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards
from regraft.numerics.other_models import other_model
from regraft.numerics.token_loss import asked, said
from regraft.numerics.values import discounted, following, values


@dataclass(frozen=True)
class gae:
    """`chunk`: rows of one forward pass; `temperature`: that of the rollouts."""

    gamma: float = 1.0
    lam: float = 0.95
    beta: float = 0.05
    whiten: bool = True
    reference: str | Reference = "before"
    temperature: float = 1.0
    chunk: int = 64

    def __post_init__(self) -> None:
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise RegraftError(f"gae: {name} is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 <= self.beta < float("inf"):
            raise RegraftError(f"gae: beta is {self.beta}; it must be 0 or more")
        if not self.temperature > 0:
            raise RegraftError(f"gae: the temperature is {self.temperature}; it must be over 0")
        if self.chunk < 1:
            raise RegraftError(f"gae: chunk is {self.chunk}; it must be 1 or more")

    def begin(self, ctx: Context) -> _GAE:
        return _GAE(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _GAE:
    def __init__(self, part: gae, ctx: Context) -> None:
        self.part, self.models = part, ctx.models
        self.reference = other_model(part.reference, ctx) if part.beta else None

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        part, R, counts = self.part, finite_rewards(rows["reward"]), rows["counts"] > 0
        looked = asked(self.models["student"], rows, self._look, part.chunk, self.models)
        V, apart = looked.double().unbind(-1)
        last = counts & (counts.flip(1).cumsum(1).flip(1) == 1)
        r = last * R[:, None] - part.beta * apart
        A = discounted(r + part.gamma * following(V, counts) - V, counts, part.gamma * part.lam)
        returns = A + V
        if part.whiten:
            A = _whitened(A, counts)
        return rows.having(advantage=A.float(), returns=returns.float(), values=V.float())

    def _look(self, view: View) -> Tensor:
        """V, and log pi - log pi_ref, [rows, places, 2]."""
        V = values(view, "gae")
        apart = torch.zeros_like(V)
        if self.reference is not None:
            pi, pi_ref = (said(each, self.part.temperature).log_probs for each in (view, self.reference(view)))
            apart = pi - pi_ref
        return torch.stack([V, apart], -1)


def _whitened(A: Tensor, counts: Tensor) -> Tensor:
    """The same with mean 0 and standard deviation 1 over what counts; all 0 where all are equal."""
    each = A[counts]
    if len(each) and each.max() > each.min():
        each = (each - each.mean()) / (each.var() + 1e-8).sqrt()
    else:
        each = torch.zeros_like(each)
    return A.masked_scatter(counts, each)
