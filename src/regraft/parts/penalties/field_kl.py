"""Binary weights learned as fields: the posterior of the tasks so far is the next one's prior.

    penalty = sum_i KL(Q_i || Q'_i) / n        d/d theta_i = beta² (1 - m_i²)(theta_i - theta'_i) / n

Q(w) = e^{beta theta w} / (2 cosh(beta theta)), m = tanh(beta theta), theta': the fields after the last update, n: the
update's rows, over which the loss is a mean. A weight that is certain hardly moves, one that is not is free to: its
uncertainty stands where EWC has the Fisher information.

Paper:   "Statistical mechanics of continual learning: variational principle and mean-field potential" Li et al. 2023.
         https://arxiv.org/abs/2212.02846
Claim:   when the inputs change and the classes do not, a network of binary weights forgets less than one that is
         fine-tuned straight through the signs, and than fields without the penalty.
Needs:   layers of binary weights as fields (`numerics.fields.FieldLinear`); the rows named by `source`, to count them.
Leaves:  `field_kl`: theta, by tensor. Without it, in a first update, it is absent.
Differs: the authors' code takes theta' from a step before, not from the task before, and raises beta from 2 to 10 over
         the stream; here theta' is of the last update, as in the paper, and beta is the layers'.
Tags:    variational, weight regularisation, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.fields import FieldLinear, divergence
from regraft.numerics.tensors import on_cpu


@dataclass(frozen=True)
class field_kl:
    source: str = "new"

    def begin(self, ctx: Context) -> _FieldKL:
        return _FieldKL(self, ctx)


class _FieldKL:
    def __init__(self, part: field_kl, ctx: Context) -> None:
        self.student = ctx.models["student"]
        layers = self.student.module.named_modules()
        self.beta = {f"{name}.weight": layer.beta for name, layer in layers if isinstance(layer, FieldLinear)}
        if not self.beta:
            do = "It needs a network of its own, built of FieldLinear"
            raise RegraftError("field_kl: the network has no binary weights as fields", do=do)
        left: Mapping[str, Tensor] = ctx.memory.get("field_kl", {})
        self.prior = {name: theta.to(self.student.device) for name, theta in left.items() if name in self.beta}
        self.n = ctx.rows(part.source).count

    def penalty(self, weights: Weights) -> Tensor:
        each = [divergence(weights[name], prior, self.beta[name]) for name, prior in self.prior.items()]
        return torch.stack(each).sum() / self.n if each else torch.zeros(())

    def leave(self) -> Mapping[str, Any]:
        weights = self.student.weights()
        return {"field_kl": on_cpu({name: weights[name] for name in self.beta})}
