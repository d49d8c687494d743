"""The answers that demonstrations give to questions, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from regraft.core.rows import Rows

_READ = 4096


def shown_answers(rows: Rows) -> dict[int, list[list[int]]]:
    """The counted targets of each block, and so the end after them, by the question (`item`) that it answers."""
    found: dict[int, list[list[int]]] = {}
    for piece in rows.chunks(_READ):
        for item, targets, counts in zip(piece["item"].tolist(), piece["targets"], piece["counts"], strict=True):
            found.setdefault(item, []).append(targets[counts > 0].tolist())
    return found


def one_each(
    answers: Mapping[int, Sequence[Sequence[int]]], items: Tensor, dice: torch.Generator
) -> list[Sequence[int]]:
    """A demonstrated answer to each question, by dice where it has several; nothing where it has none."""
    chosen: list[Sequence[int]] = []
    for item in items.tolist():
        own = answers.get(item, ((),))
        chosen.append(own[int(torch.randint(len(own), (), generator=dice)) if len(own) > 1 else 0])
    return chosen
