"""Diagnosis: which skills a model lacks, by items with answers that can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Progress
from regraft.evidence.items import Items
from regraft.models.causal import CausalLM
from regraft.numerics.trying import Asking
from regraft.parts.metrics.capability_map import mapped
from regraft.parts.transforms.verified import verified
from regraft.recipes.questions import asked


def diagnose(
    model: CausalLM,
    items: Items,
    *,
    by: str = "exact",
    marker: str | None = None,
    asking: Asking | None = None,
    chat: bool = False,
    seed: int = 0,
    jobs: int = 1,
    on_rows: Callable[[int, int], None] | None = None,
) -> tuple[Measurement, Mapping[str, int]]:
    """The capability map of a model on items, and how many items were left out, by why.

    Args:
        by, marker: how answers are checked, see `verified`.
        asking: how they are asked; none: 8 answers each of at most 256 tokens, or what half the context has room for.
        chat: prompts are put through the chat template.
        jobs: programs or checkers of one's own that run at once.

    Raises RegraftError for items that cannot be asked, and a checker that is not there.
    """
    if by.endswith(".py"):
        if not Path(by).is_file():
            raise RegraftError("there is no such file", where=by)
    elif by not in ("exact", "number"):
        raise RegraftError(f"{by!r} is neither exact nor number nor the path of a .py file", where="--by")
    if asking is None:
        asking = Asking(tokens=min(256, max(1, (model.context or 512) // 2)))
    rows, left_out = asked(model, items, tokens=asking.tokens, chat=chat)
    dice = torch.Generator().manual_seed(seed)
    nobody: Any = _nobody
    ctx = Context({"student": model}, {"items": rows}, {}, dice, lambda: Progress(0, 1), nobody, nobody, nobody)
    return mapped(model, ctx, rows, verified(by=by, marker=marker, jobs=jobs), asking, on_rows=on_rows), left_out


def _nobody(*_: object) -> None:
    raise RegraftError("nothing is trained here")
