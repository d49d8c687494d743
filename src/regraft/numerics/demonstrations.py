"""The answers that demonstrations give to questions, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.core.parts import Stateful
from regraft.core.rows import Rows

_READ = 4096


class Demonstrations(Stateful):
    """Demonstrations by their question.

    Args:
        rows: blocks, with `item`, the question that each answers, and `row`. An answer is the counted targets, and so
            the end after them.

    Attributes:
        used: which of them were given, bool by their `row`.
    """

    state = ("dice", "used")

    def __init__(self, rows: Rows, dice: torch.Generator) -> None:
        self.dice = dice
        self.of: dict[int, list[tuple[int, list[int]]]] = {}
        for piece in rows.chunks(_READ):
            columns = (piece["item"].tolist(), piece["row"].tolist(), piece["targets"], piece["counts"])
            for item, row, targets, counts in zip(*columns, strict=True):
                self.of.setdefault(item, []).append((row, targets[counts > 0].tolist()))
        last = max((row for own in self.of.values() for row, _ in own), default=-1)
        self.used = torch.zeros(last + 1, dtype=torch.bool)

    def one_each(self, items: Tensor) -> list[Sequence[int]]:
        """An answer to each question, by dice where there are several; nothing where there is none."""
        answers: list[Sequence[int]] = []
        for item in items.tolist():
            own = self.of.get(item, ())
            if not own:
                answers.append(())
                continue
            row, tokens = own[int(torch.randint(len(own), (), generator=self.dice)) if len(own) > 1 else 0]
            self.used[row] = True
            answers.append(tokens)
        return answers
