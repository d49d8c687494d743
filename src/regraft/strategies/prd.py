"""PRD: contrastive features, and a prototype of each class that moves with them, without any old row.

    loss = supcon(two views) + alpha · (1 - cos(sg(f), p_y)) + beta · relation distillation of the old prototypes

Paper:   "Prototype-Sample Relation Distillation: Towards Replay-Free Continual Learning" Asadi et al. 2023.
         https://arxiv.org/abs/2303.14771
Claim:   without old rows it is more accurate than plain training, and than its contrast and prototypes alone.
Differs: prototypes learn at the rate of the features; the authors give them an optimizer of their own.
Tags:    distillation, representation, prototypes, exemplar-free, image, class-incremental, task-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.unit_prototypes import unit_prototypes
from regraft.parts.losses.prototype import prototype
from regraft.parts.losses.relation import relation
from regraft.parts.losses.supcon import supcon
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Strategy, method


@method(tune={"beta": (1.0, 4.0, 16.0), "alpha": (1.0, 4.0)})
def prd(
    *,
    alpha: float = 4.0,
    beta: float = 4.0,
    T: float = 0.1,
    relation_T: float = 0.1,
    over: Literal["rows", "classes"] = "rows",
    shift: float = 1.0,
    noise: float = 0.1,
) -> Strategy:
    new = Feed("new", view_batch(shuffled(), 2, augment(shift=shift, noise=noise)))
    contrast = supcon(T)
    losses = (Weighted(contrast), Weighted(relation(relation_T, over), beta))
    plan = Plan(feeds=(new,), losses=losses, trainables=(contrast,))
    return Strategy(plan, labels=(Weighted(prototype(), alpha),), release=(unit_prototypes(),))
