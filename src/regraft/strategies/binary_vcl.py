"""Variational continual learning of binary weights: each task's posterior, in fields, is the next one's prior.

It cannot act on a network that it is given: weights are drawn signs here, and what is learned are the fields that draw
them, at rates many times those of real weights. So each ground of the comparison that tried it leaves it out; its cost
beside plain training is not known, and what it keeps is measured on a network of its own, see `field_kl`.

Paper: "Statistical mechanics of continual learning: variational principle and mean-field potential" Li et al. 2023.
       https://arxiv.org/abs/2212.02846
Needs: a network of its own, of binary weights as fields (`numerics.fields.perceptron`).
Tags:  variational, weight regularisation, exemplar-free, domain-incremental, task-incremental
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.field_kl import field_kl
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (1.0, 10.0, 100.0)}, null={"strength": 0.0})
def binary_vcl(*, strength: float = 1.0) -> Strategy:
    return Strategy(Plan(penalties=(Weighted(field_kl(), strength),)))
