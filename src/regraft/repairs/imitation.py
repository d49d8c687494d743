"""Imitation: the likelihood of demonstrations, of all skills or of those alone that fail.

    which="all"       every demonstration, as often as it is there
    which="failing"   those of skills that the map calls reachable or missing

Needs: demonstrations.
Tags:  demonstrations, language model
"""

from __future__ import annotations

from typing import Literal

import torch

from regraft.core.errors import RegraftError
from regraft.recipes.repairing import SHOWN, Workshop, repair


@repair
def imitation(w: Workshop, *, which: Literal["all", "failing"] = "all") -> None:
    if which not in ("all", "failing"):
        raise RegraftError(f"imitation: which is {which!r}; it must be 'all' or 'failing'")
    chosen = torch.ones(w.lesson.items.count, dtype=torch.bool)
    if which == "failing":
        failing = w.failing()
        w.note(f"shown      {', '.join(failing) or 'no skill fails: nothing is learned'}")
        if not failing:
            return
        chosen = w.lesson.of(failing)
    w.fit(w.imitated(), data={SHOWN: w.lesson.demonstrations(chosen)})
