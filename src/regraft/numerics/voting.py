"""Which of several answers to a question is taken: the best one, or what most of them say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def numbered(answers: Sequence[str | None], copies: int) -> Tensor:
    """Answers to questions, `copies` of each side by side, as numbers: equal ones alike, -1 where there is none.
    int64 [questions, copies]."""
    number: dict[str, int] = {}
    found = [-1 if each is None else number.setdefault(each, len(number)) for each in answers]
    return torch.tensor(found, dtype=torch.long).view(-1, copies)


def best_of(worth: Tensor) -> Tensor:
    """Which answer to each question is worth most, the first of several, int64 [questions].

    Args:
        worth: [questions, copies].
    """
    return (worth == worth.amax(1, keepdim=True)).int().argmax(1)


def voted(said: Tensor, worth: Tensor | None = None) -> Tensor:
    """Which answer to each question says what has most votes, the first that says so, int64 [questions].

    Args:
        said: as `numbered` gives them; nothing votes for no answer.
        worth: what each vote counts, [questions, copies]; none: all alike.
    """
    worth = torch.ones(said.shape) if worth is None else worth
    alike = (said[:, :, None] == said[:, None, :]) & (said[:, None, :] >= 0)
    votes = (alike * worth.double()[:, None, :]).sum(2)
    return best_of(votes.masked_fill(said < 0, -torch.inf))
