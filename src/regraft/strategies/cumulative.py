"""Every task is learned together with all rows of the tasks before it: what keeping everything costs and gives.

Paper: "CORe50: a New Dataset and Benchmark for Continuous Object Recognition" Lomonaco and Maltoni 2017.
       https://arxiv.org/abs/1705.03550
Tags:  upper bound, replay, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.recipes.strategy import Strategy, method


@method()
def cumulative() -> Strategy:
    return Strategy(reads="all")
