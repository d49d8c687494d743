"""The posteriors of all tasks so far, those that are near to one that is kept left out. No weight is changed.

    q_i^j is kept if  W_2(q_i^j, q) >= d  for every q that is kept;  else the nearest q stands for it

What stands for a posterior is the next prior, too. W_2 is over the root of the number of weights, so that d is a
distance a weight. With d = 0 all are kept, as many a task as there are members; with d > 0 fewer, above all of tasks
that come again. The edit `preference` writes models from what is kept.

Paper:   "IBCL: Zero-shot Model Generation for Task Trade-offs in Continual Learning" Lu et al. 2023.
         https://arxiv.org/abs/2305.14782
Needs:   in memory the posteriors of the task, as the trainable `mean_field` leaves them.
Leaves:  `credal_set`: what is kept, and by task and member which of them is meant; `mean_field`: the next priors.
Differs: the authors' code takes |mu - mu'| / n + |sigma - sigma'| / n for W_2; the paper does not divide it.
Tags:    variational, exemplar-free
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.mean_field import Gaussians, distance


@dataclass(frozen=True)
class credal_set:
    d: float = 0.0

    def __post_init__(self) -> None:
        if not self.d >= 0:
            raise RegraftError(f"credal_set: d is {self.d}; it must be 0 or more")

    def begin(self, ctx: Context) -> _CredalSet:
        return _CredalSet(self.d, ctx.memory)


class _CredalSet:
    def __init__(self, d: float, memory: Mapping[str, Any]) -> None:
        if not (new := memory.get("mean_field")):
            raise RegraftError("credal_set: no posterior is in memory", do="Train with the trainable mean_field")
        left = memory.get("credal_set", {"mu": [], "sigma": [], "tasks": []})
        mu, sigma, meant = list(left["mu"]), list(left["sigma"]), []
        for q in new.values():
            apart = _apart(Gaussians(q["mu"], q["sigma"]), mu, sigma)
            if not mu or float(apart.min()) >= d:
                meant.append(len(mu))
                mu.append(q["mu"])
                sigma.append(q["sigma"])
            else:
                meant.append(int(apart.argmin()))
        self.kept = {"mu": torch.stack(mu), "sigma": torch.stack(sigma), "tasks": [*left["tasks"], meant]}
        self.priors = {member: {"mu": mu[i], "sigma": sigma[i]} for member, i in zip(new, meant, strict=True)}

    def edit(self, weights: Weights) -> Weights:
        return {}

    def leave(self) -> Mapping[str, Any]:
        return {"credal_set": self.kept, "mean_field": self.priors}


def _apart(q: Gaussians, mu: Sequence[Tensor], sigma: Sequence[Tensor]) -> Tensor:
    """W_2 to each that is kept, over the root of the number of weights, [kept]."""
    if not mu:
        return torch.empty(0)
    to_each: Tensor = distance(q, Gaussians(torch.stack([*mu]), torch.stack([*sigma])))
    return to_each / math.sqrt(len(q.mu))
