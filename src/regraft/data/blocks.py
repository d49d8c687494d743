"""Few documents as blocks in memory; `pack` is for those that are larger than it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regraft.core.rows import Rows
from regraft.data.tokenise import Encoded


def blocks(documents: Sequence[Encoded], context: int, weights: Sequence[float] | None = None) -> Rows:
    """The documents end to end in blocks of `context` tokens, with the columns of `pack.Blocks`; the last is padded.

    Args:
        weights: how much the targets of each document count; none: each counts 1.
    """
    if not documents:
        return Rows({})
    weights = [1.0] * len(documents) if weights is None else weights
    lengths = [len(each.ids) for each in documents]
    count = -(-sum(lengths) // context)
    tokens, begins, worth = (np.zeros(count * context + 1, dtype) for dtype in (np.int64, np.bool_, np.float32))
    tokens[: sum(lengths)] = np.concatenate([each.ids for each in documents])
    worth[: sum(lengths)] = np.concatenate([_worth(each, w) for each, w in zip(documents, weights, strict=True)])
    begins[np.cumsum([0, *lengths])] = True
    at = np.arange(count)[:, None] * context + np.arange(context)
    since = np.maximum.accumulate(np.where(begins[at], np.arange(context), 0), axis=1)
    counts = worth[at + 1]
    found = {
        "input_ids": tokens[at],
        "positions": np.arange(context) - since,
        "targets": np.where(counts > 0, tokens[at + 1], 0),
        "counts": counts,
    }
    return Rows({name: torch.from_numpy(column) for name, column in found.items()})


def _worth(document: Encoded, weight: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """How much each token counts as a target: the first is none."""
    learned = np.ones(len(document.ids)) if document.supervised is None else document.supervised.astype(np.float64)
    learned[0] = 0
    return (weight * learned).astype(np.float32)
