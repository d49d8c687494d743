"""Training anew on the rows of all tasks so far: what one would reach without a stream.

Paper: "Learning without Forgetting" Li and Hoiem 2016 (joint training as what could be reached).
       https://arxiv.org/abs/1606.09282
Tags:  upper bound, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.recipes.strategy import Strategy, method


@method()
def joint() -> Strategy:
    return Strategy(reads="all", fresh=True)
