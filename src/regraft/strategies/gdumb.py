"""GDumb: a balanced memory, and a network trained anew on it alone after every task.

Paper:   "GDumb: A Simple Approach that Questions Our Progress in Continual Learning" Prabhu et al. 2020.
         https://doi.org/10.1007/978-3-030-58536-5_31
Claim:   no less accurate, to 2 points, than replay that reads the whole stream, at equal memory and updates.
Differs: the authors train when they are asked, in many more passes, with warm restarts and cutmix.
Tags:    replay, class-incremental, task-incremental, domain-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.exemplars import exemplars
from regraft.recipes.strategy import Stage, Strategy, method


@method()
def gdumb(*, memory: int = 200, epochs: float = 1.0) -> Strategy:
    rows = Feed("memory", exemplars(memory, "random", adds="before"))
    anew = Stage(Plan(feeds=(rows,), losses=(Weighted(nll()),)), epochs=epochs, fresh=True)
    return Strategy(epochs=0.0, after=(anew,))
