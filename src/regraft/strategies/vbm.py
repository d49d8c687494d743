"""View-batch model: replay in which each row, new or remembered, comes as many views at once that answer alike.

Paper:   "Do Your Best and Get Enough Rest for Continual Learning" Kang et al. 2025. https://arxiv.org/abs/2503.18371
Claim:   four views of each row at once, held to agree, raise the accuracy of replay over one at a time, at equal
         updates.
Differs: agreement is asked for after a share `start` of the updates; the authors begin after 5 of 50 epochs.
Tags:    replay, augmentation, image, class-incremental, task-incremental, domain-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.view_agreement import view_agreement
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.schedules.onset import onset
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Strategy, method


@method(
    tune={"alpha": (0.1, 0.3, 1.0), "noise": (0.1, 0.3)},
    null={"V": 1, "alpha": 0.0, "shift": 0.0, "turn": 0.0, "noise": 0.0, "beside": 0.0},
)
def vbm(
    *,
    memory: int = 200,
    beside: float = 1.0,
    V: int = 4,
    alpha: float = 1.0,
    start: float = 0.1,
    shift: float = 1.0,
    turn: float = 15.0,
    noise: float = 0.1,
) -> Strategy:
    weak, strong = augment(shift=shift), augment(shift=shift, turn=turn, noise=noise)
    new = Feed("new", view_batch(shuffled(), V, weak, strong))
    kept = Feed("memory", view_batch(reservoir(memory), V, weak, strong), beside=beside)
    agree = Weighted(view_agreement(), onset(at=start, height=alpha) if start else alpha)
    return Strategy(Plan(feeds=(new, kept), losses=(agree,)))
