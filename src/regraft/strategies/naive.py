"""Plain training on each task in turn: what every strategy is compared with.

Tags: exemplar-free, task-free, language model
"""

from __future__ import annotations

from regraft.recipes.strategy import Strategy, method


@method()
def naive() -> Strategy:
    return Strategy()
