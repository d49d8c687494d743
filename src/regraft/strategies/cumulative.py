"""Every task is learned together with all rows of the tasks before it: what keeping everything costs and gives.

Tags: upper bound, replay
"""

from __future__ import annotations

from regraft.recipes.strategy import Strategy, method


@method()
def cumulative() -> Strategy:
    return Strategy(reads="all")
