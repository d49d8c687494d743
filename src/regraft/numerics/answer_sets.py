"""Several answers to a prompt in one row, for losses over all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded


def set_blocks(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]) -> Rows:
    """A block for each prompt: its answers, one after the other and each after the prompt. `member` says which answer
    each place is of, -1: of none.

    Args:
        answers: of each prompt, any number.
    """
    before, most = Padded.of(prompts), max(map(len, answers), default=0)
    parts = []
    for number in range(max(most, 1)):
        own = answer_blocks(before, Padded.of([each[number] if number < len(each) else () for each in answers]))
        parts.append(own.having(member=torch.where(own["counts"] > 0, number, -1)))
    return Rows({name: torch.cat([part[name] for part in parts], 1) for name in parts[0]})
