"""Training anew on the rows of all tasks so far: what one would reach without a stream.

Tags: upper bound
"""

from __future__ import annotations

from regraft.recipes.strategy import Strategy, method


@method()
def joint() -> Strategy:
    return Strategy(reads="all", fresh=True)
