"""ConTraCon: a transformer whose attention every task filters anew, by convolutions over an earlier task's weights.

Paper: "Exemplar-Free Continual Transformer with Convolutions" Roy et al. 2023. https://arxiv.org/abs/2308.11357
Tags:  parameter isolation, exemplar-free, class-incremental, task-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.trainables.convolve import convolve
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Strategy, method


@method(tune={"smoothing": (0.1, 0.0), "noise": (0.3, 0.1, 1.0)})
def contracon(
    *,
    kernel: int = 15,
    heads: int | None = None,
    parent: Literal["similar", "random"] = "similar",
    smoothing: float = 0.1,
    views: int = 10,
    shift: float = 0.5,
    noise: float = 0.3,
) -> Strategy:
    """`heads`: none: as many as the network says. `views`: how many the task of a row is found by; `shift` and `noise`
    make them, and those that are learned."""
    view = augment(shift=shift, noise=noise)
    rows = Feed("new", view_batch(shuffled(), V=1, weak=view))
    filters = convolve(kernel, heads, parent=parent, augment=view, views=views)
    return Strategy(Plan(feeds=(rows,), trainables=(filters,)), labels=(Weighted(new_classes(smoothing)),))
