"""Answers whose thinking is cut off: what a model says when it must answer now."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.core.rows import Rows
from regraft.numerics.trying import Tried


def thinking(answers: Tried, force: Sequence[int]) -> Tensor:
    """How many tokens each answer has before the tokens `force` first come, int64 [rows]; all, where they never do."""
    tokens, lengths = answers.written.tokens, answers.written.lengths
    if tokens.shape[1] < len(force):
        return lengths
    starts = (tokens.unfold(1, len(force), 1) == torch.tensor(force)).all(2)
    place = torch.arange(starts.shape[1])
    starts &= place + len(force) <= lengths[:, None]
    return torch.where(starts.any(1), starts.int().argmax(1), lengths)


def cut_off(answers: Tried, rows: Tensor, at: int, force: Sequence[int]) -> Rows:
    """Some answers, by number, as they are to be gone on with: `prefix_ids`, their first `at` tokens and `force`."""
    begun = [[*own, *force] for own in answers.written.tokens[rows, :at].tolist()]
    return answers.rows.take(rows).having(prefix_ids=begun)
