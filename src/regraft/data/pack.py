"""Packing: documents end to end in blocks of one length, so that no computation is spent on padding.

Documents keep out of each other's sight: positions restart at each of them, from which transformers builds a
block-diagonal attention mask when it is given no other, and no document's first token is a target.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.rows import Column, Rows, Shared
from regraft.data.corpus import Corpus
from regraft.data.shards import Index


def pack(corpus: Corpus, context: int, *, seed: int, drop_last: bool = False, by_source: bool = True) -> Blocks:
    """The corpus's tokens in blocks of `context`: each source's documents shuffled by `seed`, then laid end to end.

    A document that does not fit goes on in the next block, as if it began there. Documents of different sources never
    share a block, and the order within one source does not depend on the others.

    Args:
        corpus: the documents.
        context: tokens of a block, at least 1.
        seed: the order of the documents.
        drop_last: leave out each source's last block where it is not full, instead of padding it.
        by_source: False lays the documents of all sources end to end as if they were of one: only the very last block
            is padded, and the rows have no column `source`.
    """
    if context < 1:
        raise RegraftError(f"the context must be at least 1 token, not {context}")
    order: list[Index] = []
    starts: list[Index] = []
    counts: list[int] = []
    for mine in _groups(corpus, seed) if by_source else [_shuffled(np.arange(corpus.documents), seed, "")]:
        ends = corpus.lengths[mine].cumsum()
        total = int(ends[-1]) if len(ends) else 0
        blocks = total // context if drop_last else -(-total // context)
        begins = ends - corpus.lengths[mine]
        kept = begins < blocks * context
        order.append(mine[kept])
        starts.append(begins[kept] + sum(counts) * context)
        counts.append(blocks)
    if not any(counts):
        needed = f"less than one block of {context}" if corpus.tokens else "nothing to pack"
        raise RegraftError(f"the corpus has {corpus.tokens} tokens: {needed}")
    source_of = np.repeat(np.arange(len(counts)), counts) if by_source else None
    return Blocks(corpus, context, np.concatenate(order), np.concatenate(starts), sum(counts), source_of)


def _groups(corpus: Corpus, seed: int) -> list[Index]:
    """The documents of each source, shuffled."""
    by_source = np.argsort(corpus.source, kind="stable")
    ends = np.bincount(corpus.source, minlength=len(corpus.sources)).cumsum()
    groups = np.split(by_source, ends)[:-1]
    return [_shuffled(mine, seed, name) for mine, name in zip(groups, corpus.sources, strict=True)]


def _shuffled(documents: Index, seed: int, source: str) -> Index:
    dice = hashlib.sha256(f"{seed}\0{source}".encode()).digest()
    return np.random.default_rng(list(dice)).permutation(documents)


@dataclass(frozen=True)
class _Pieces:
    """The parts of documents that lie in some blocks: each with its row, its rank in the order, and [begin, end)."""

    row: Index
    rank: Index
    begin: Index
    end: Index

    @property
    def length(self) -> Index:
        return self.end - self.begin


class Blocks:
    """A packed corpus: an order of its documents, cut every `context` tokens. Memory grows with documents, not tokens.

    Attributes:
        corpus: the documents.
        context: tokens of a block, T.
        rows: the blocks as lazy rows, all columns read in one pass:
            input_ids [blocks, T] int64: 0 on padding, which only a source's last block has.
            positions [blocks, T] int64: from 0 at the start of each block and of each document.
            targets [blocks, T] int64: the next token, where it counts; a block's last place is told the first token of
                the next block if that goes on with the same document. 0 elsewhere.
            counts [blocks, T] float32: how much each target counts: its document's weight; 0 across documents, on
                padding, and for tokens that are not supervised.
            row [blocks] int64: the block's own number.
            source [blocks] int64: the source of the block, as a place in `corpus.sources`, where it has one alone.
    """

    def __init__(
        self, corpus: Corpus, context: int, order: Index, starts: Index, count: int, source: Index | None
    ) -> None:
        self.corpus = corpus
        self.context = context
        self._count = count
        self._order = order
        self._starts = starts
        self._lengths = corpus.lengths[order]
        self._on_disk = corpus.starts[order]
        self._weight = corpus.weight[order]
        names = ("input_ids", "positions", "targets", "counts")
        known: dict[str, Column] = {"row": torch.arange(count)}
        if source is not None:
            known["source"] = torch.from_numpy(source)
        self.rows = Rows({**{name: Shared(self, name) for name in names}, **known})

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Blocks({len(self)} × {self.context} tokens of {self.corpus!r})"

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """All columns of the blocks at `index` (see `rows`)."""
        blocks = index.numpy()
        pieces = self._pieces(blocks)
        within = _counting(pieces.length)
        window = (len(blocks), self.context + 1)
        at = _spread(pieces.row * window[1] + pieces.begin - blocks[pieces.row] * self.context, pieces) + within
        on_disk = self._places(pieces) + within
        tokens, positions = np.zeros(window, dtype=np.int64), np.zeros(window, dtype=np.int64)
        counts = np.zeros(window, dtype=np.float32)
        tokens.reshape(-1)[at] = self.corpus.read(on_disk)
        positions.reshape(-1)[at] = within
        counts.reshape(-1)[at] = _spread(self._weight[pieces.rank], pieces) * self._learned(on_disk, within)
        targets = np.where(counts[:, 1:] > 0, tokens[:, 1:], 0)
        return {
            "input_ids": torch.from_numpy(tokens[:, :-1].copy()),
            "positions": torch.from_numpy(positions[:, :-1].copy()),
            "targets": torch.from_numpy(targets),
            "counts": torch.from_numpy(counts[:, 1:].copy()),
        }

    def documents_of(self, index: Tensor | Index) -> Index:
        """The documents with a token in the blocks at `index`: indices in `corpus`, ascending, each once."""
        return np.unique(self._order[self._pieces(np.asarray(index)).rank])

    def _pieces(self, blocks: Index) -> _Pieces:
        """What the blocks hold; the piece that reaches a block's end has one token more, its last target."""
        if len(blocks) and not 0 <= blocks.min() <= blocks.max() < len(self):
            raise IndexError(f"blocks are counted from 0 to {len(self) - 1}")
        low = blocks * self.context
        first = np.searchsorted(self._starts, low, side="right") - 1
        count = np.searchsorted(self._starts, low + self.context, side="left") - first
        row = np.repeat(np.arange(len(blocks)), count)
        rank = first[row] + _counting(count)
        start = self._starts[rank]
        begin = np.maximum(start, low[row])
        end = np.minimum(start + self._lengths[rank], low[row] + self.context + 1)
        return _Pieces(row, rank, begin, end)

    def _places(self, pieces: _Pieces) -> Index:
        return _spread(self._on_disk[pieces.rank] + pieces.begin - self._starts[pieces.rank], pieces)

    def _learned(self, on_disk: Index, within: Index) -> NDArray[np.bool_]:
        """Whether each token is a target: not the first that its block shows of its document, and supervised."""
        follows = within > 0
        return follows & self.corpus.read_supervised(on_disk) if self.corpus.supervised else follows


def _counting(lengths: Index) -> Index:
    """0, 1, ... anew for each length, end to end."""
    ends = lengths.cumsum()
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _spread(values: NDArray[Any], pieces: _Pieces) -> NDArray[Any]:
    """Each piece's value, once for each of its tokens."""
    return np.repeat(values, pieces.length)
