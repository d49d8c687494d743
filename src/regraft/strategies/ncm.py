"""NCM: one mean of features for every class, on a network that was pretrained, or that the first task trains.

Under a frozen network (`first=0`) means are counted as rows come, so that no boundary between tasks is needed.

Paper:   "A Simple Baseline that Questions the Use of Pretrained-Models in Continual Learning" Janson et al. 2022.
         https://arxiv.org/abs/2210.04428
Claim:   on a pretrained network it is more accurate than training that network on, plainly, with EWC or with LwF.
Differs: the authors give features length 1, as `distance="cosine"` does.
Tags:    exemplar-free, pretrained, prototypes, task-free, online, class-incremental, task-incremental, few-shot
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.nearest_mean import nearest_mean
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.strategy import Stage, Step, Strategy, method


@method(tune={"first": (1.0, 0.0), "distance": ("cosine", "euclidean")})
def ncm(*, distance: Literal["euclidean", "cosine"] = "euclidean", first: float = 0.0) -> Strategy:
    """`first`: how long the first task trains the network, as a factor on the length of training; 0: it is frozen."""
    train = Stage(Plan((Feed("new", shuffled()),), (Weighted(nll()),)), first, tasks="first")
    before: tuple[Step, ...] = (train,) if first else ()
    return Strategy(before=before, after=(nearest_mean(distance),), epochs=0.0)
