"""Log-likelihoods of given tokens under a causal language model, the same whatever they are batched with.

Rows are padded on the right and positions are given, so that what a row reads does not depend on its neighbours; rows
are sorted by length, so that little of a batch is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.numerics.evaluating import evaluating

Index: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Vector: TypeAlias = NDArray[np.float64]

BATCH_TOKENS = 8192
BATCH_LOGITS = 1 << 28
"""Logits that one batch may hold: with a vocabulary past 32k, a batch has fewer than `BATCH_TOKENS` tokens."""
TIE = 1e-5
"""Nats. A lead that is no larger is the arithmetic's own noise and counts as none."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Stretches of tokens, each read by itself from position 0.

    Attributes:
        tokens: [tokens] all stretches lie in here.
        counted: [tokens] whether a token counts where it is predicted.
        starts: [pieces] the first token that a piece reads.
        lengths: [pieces] how many tokens it reads, at least 1; it predicts the one after each of them.
    """

    tokens: Index
    counted: Mask
    starts: Index
    lengths: Index

    @property
    def targets(self) -> Index:
        """How many of each piece's predictions count, [pieces]."""
        until = np.concatenate([[0], self.counted.cumsum()])
        found: Index = until[self.starts + self.lengths + 1] - until[self.starts + 1]
        return found


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model makes of some pieces.

    Attributes:
        log_prob: [pieces] sum of the log-probabilities of the targets that count, in nats; 0 where none does.
        targets: [pieces] how many count.
        greedy: [pieces] whether each of them leads every other token by more than `TIE`; all False unless asked for.
    """

    log_prob: Vector
    targets: Index
    greedy: Mask


@torch.no_grad()
def score(
    model: CausalLM, pieces: Pieces, *, where: str, batch_tokens: int | None = None, greedy: bool = False
) -> Scores:
    """Scores pieces in evaluation mode, without gradient, in float32 whatever the model computes in.

    Args:
        model: the model; its mode is as before afterwards.
        pieces: what to score.
        where: what an error names: the suite.
        batch_tokens: padded tokens of a batch (at least one row); None: `BATCH_TOKENS`, fewer for a large vocabulary.
        greedy: also find whether greedy decoding would write the targets; costs a second pass over their logits.

    Raises RegraftError for tokens that the model does not embed, pieces past its context, and values not finite.
    """
    embedded = _embedded(model)
    _check(pieces, embedded, model.context, where)
    targets = pieces.targets
    budget = batch_tokens or min(BATCH_TOKENS, max(1, BATCH_LOGITS // embedded))
    order = np.argsort(-pieces.lengths, kind="stable")
    order = order[targets[order] > 0]
    log_prob, leads = np.zeros(len(targets)), np.zeros(len(targets), dtype=bool)
    with evaluating(model):
        for batch in batches(order, pieces.lengths[order], budget):
            _score_batch(model, pieces, batch, log_prob, leads if greedy else None)
    if not np.isfinite(log_prob).all():
        raise RegraftError(
            "the model's log-probabilities are not finite", where=where, do="Its weights or number format are broken"
        )
    return Scores(log_prob, targets, leads)


def counting(lengths: Index) -> Index:
    """0, 1, ... anew for each length, end to end, [sum of lengths]."""
    ends = lengths.cumsum()
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _embedded(model: CausalLM) -> int:
    module: Any = model.module
    return int(module.get_input_embeddings().weight.shape[0])


def _check(pieces: Pieces, embedded: int, context: int | None, where: str) -> None:
    longest, largest = int(pieces.lengths.max(initial=0)), int(pieces.tokens.max(initial=0))
    if context is not None and longest > context:
        raise RegraftError(f"{longest} tokens are past the model's context of {context}", where=where)
    if largest >= embedded:
        raise RegraftError(
            f"token {largest} is not one of the {embedded} that the model embeds",
            where=where,
            do="Give the tokenizer that the model was trained with",
        )


def batches(order: Index, lengths: Index, budget: int) -> Iterator[Index]:
    """Runs of `order`, whose lengths fall, that are at most `budget` tokens when padded to their first."""
    start = 0
    while start < len(order):
        stop = start + max(1, budget // int(lengths[start]))
        yield order[start:stop]
        start = stop


def _score_batch(model: CausalLM, pieces: Pieces, batch: Index, log_prob: Vector, leads: Mask | None) -> None:
    lengths = pieces.lengths[batch, None]
    places = pieces.starts[batch, None] + np.arange(int(lengths.max()) + 1)
    places = np.minimum(places, len(pieces.tokens) - 1)
    real = np.arange(places.shape[1] - 1) < lengths
    counted = real & pieces.counted[places[:, 1:]]
    window = torch.from_numpy(pieces.tokens[places])
    rows = Rows(
        {
            "input_ids": window[:, :-1].masked_fill(torch.from_numpy(~real), 0),
            "positions": torch.arange(real.shape[1]).expand(real.shape),
            "targets": window[:, 1:],
            "counts": torch.from_numpy(counted.astype(np.float32)),
        }
    ).to(model.device)
    out = model.read(rows)
    chosen = rows["counts"] > 0
    logits, targets = out.logits[chosen].float(), out.targets[chosen]
    owner = counted.nonzero()[0]
    each = F.cross_entropy(logits, targets, reduction="none").cpu().double().numpy()
    log_prob[batch] = -np.bincount(owner, each, len(batch))
    if leads is not None:
        own = logits.gather(1, targets[:, None])
        others = logits.scatter(1, targets[:, None], -torch.inf).max(1, keepdim=True).values
        lead = (own - others > TIE)[:, 0].cpu().numpy()
        leads[batch] = np.logical_and.reduceat(lead, np.flatnonzero(np.diff(owner, prepend=-1)))
