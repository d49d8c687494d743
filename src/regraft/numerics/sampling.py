"""Tokens drawn from logits, by the inverse of their distribution's sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: what logits are divided by; 0: always the likeliest token.
        top_k: only the so many likeliest tokens; 0: all.
        top_p: only the likeliest tokens that together have this probability, one at least.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise RegraftError(f"the temperature is {self.temperature}; it must be 0 or more")
        if self.top_k < 0:
            raise RegraftError(f"top_k is {self.top_k}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise RegraftError(f"top_p is {self.top_p}; it must be over 0 and at most 1")

    def draw(self, logits: Tensor, dice: Tensor) -> tuple[Tensor, Tensor]:
        """A token for each row, int64 [rows], and its log-probability among all tokens, float32 [rows].

        The log-probability is of the logits over the temperature (of the logits, where that is 0), before top-k and
        top-p.

        Args:
            logits: [rows, tokens].
            dice: uniform in (0, 1], [rows].
        """
        logits = logits.float()
        if self.temperature not in (0, 1):
            logits = logits / self.temperature
        log_probs = logits.log_softmax(-1)
        chosen = log_probs.argmax(-1) if self.temperature == 0 else self._drawn(log_probs, dice)
        return chosen, log_probs.gather(1, chosen[:, None])[:, 0]

    def _drawn(self, log_probs: Tensor, dice: Tensor) -> Tensor:
        probs = log_probs.exp()
        if not self.top_k and self.top_p == 1:
            return inverse(probs, dice)
        count = min(self.top_k or probs.shape[1], probs.shape[1])
        likely, tokens = probs.topk(count, dim=-1)
        before = likely.cumsum(-1) - likely
        likely = likely.masked_fill(before >= self.top_p, 0.0)
        return tokens.gather(1, inverse(likely, dice)[:, None])[:, 0]


def inverse(weights: Tensor, dice: Tensor) -> Tensor:
    """Which column each row's dice fall on, int64 [rows]; columns are as likely as their weights say, and one of weight
    0 is never chosen.

    Args:
        weights: 0 or more, some of each row over 0, [rows, columns].
        dice: uniform in (0, 1], [rows].
    """
    upto = weights.cumsum(-1)
    return torch.searchsorted(upto, dice[:, None] * upto[:, -1:])[:, 0]
