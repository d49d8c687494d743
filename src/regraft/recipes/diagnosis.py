"""Diagnosis: which skills a model lacks, by items with answers that can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from regraft.core.parts import Measurement
from regraft.evidence.items import Items
from regraft.models.causal import CausalLM
from regraft.parts.metrics.capability_map import mapped
from regraft.recipes.answered import Answering, still
from regraft.recipes.questions import asked


def diagnose(
    model: CausalLM,
    items: Items,
    how: Answering,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_rows: Callable[[int, int], None] | None = None,
) -> tuple[Measurement, Mapping[str, int]]:
    """The capability map of a model on items, and how many items were left out, by why.

    Args:
        jobs: checkers of one's own that run at once.
        on_rows: hears how many answers are written, and of how many.

    Raises RegraftError for items that cannot be asked.
    """
    asking = how.asking(model)
    rows, left_out = asked(model, items, tokens=asking.tokens, chat=how.chat)
    ctx = still(model, torch.Generator().manual_seed(seed))
    return mapped(model, ctx, rows, how.judge(jobs), asking, on_rows=on_rows), left_out
