"""Keep the documents that read most like trusted text of the domain, by perplexity under an n-gram model.

    quality(d) = (1 / |d|) sum_i log p_KN(d_i | d_{i-n+1} ... d_{i-1})        p_KN fitted on the trusted text
    keep the best ceil(keep · |rows|), in the order they had

A small corpus of good documents, read for several epochs, recovers from the early dip sooner than one pass over all.

Paper:   "Efficient Continual Pre-training by Mitigating the Stability Gap" Guo et al. 2024. https://arxiv.org/abs/2406.14833
Claim:   at equal tokens, epochs over the kept tenth reach a lower loss on trusted text than one pass over the corpus.
Needs:   a column `tokens` (ids of each document, at least one); rows `trusted` with the same column.
Leaves:  a column `quality` in nats per token; higher is better.
Differs: one discount an order where KenLM has three, and no end-of-document symbol; the trusted text is the caller's.
         Written from the abstract and the catalogue's row; the full text could not be opened.
Tags:    data selection, language model
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.ngram import KneserNey

PIECE = 4096


@transform
def ngram_quality(rows: Rows, ctx: Context, *, trusted: str = "trusted", keep: float = 0.1, order: int = 5) -> Rows:
    if not 0 < keep <= 1:
        raise RegraftError(f"keep {keep} is not in (0, 1]", where="ngram_quality")
    model = KneserNey.fit([d for _, piece in _documents(ctx.rows(trusted)) for d in piece], order=order)
    scored = [-model.log_perplexity(documents, first=first) for first, documents in _documents(rows)]
    quality = torch.from_numpy(np.concatenate([np.zeros(0), *scored]))
    best = quality.argsort(descending=True, stable=True)[: math.ceil(keep * rows.count)].sort().values
    return rows.having(quality=quality).take(best)


def _documents(rows: Rows) -> Iterator[tuple[int, list[ArrayLike]]]:
    """Pieces that fit in memory: the number of the first document, and the documents."""
    table = rows.only("tokens")
    for first in range(0, rows.count, PIECE):
        yield first, list(table.take(slice(first, first + PIECE))["tokens"])
