"""How much of some texts others hold, by runs of n tokens: whether what is learned gives away what is asked.

    held(t, q) = tokens of q in an n-gram that t has, too / tokens of q in an n-gram

An n-gram that many of the q have in common, such as an instruction before each question, shows no copy: it counts
neither above nor below.

Paper: "TÜLU 3: Pushing Frontiers in Open Language Model Post-Training" Lambert et al. 2024.
       https://arxiv.org/abs/2411.15124
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

COMMON, FEW = 0.05, 2
"""An n-gram is common that is in more than this part of the texts, and in more than so many."""
AT_ONCE = 512
"""Texts that are looked through together."""


class _Grams(NamedTuple):
    """Hashes of n-grams, the text that each is in and its place there, by hash."""

    hashes: Integers
    text: Integers
    place: Integers


def held(texts: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], n: int = 8) -> NDArray[np.float64]:
    """The largest part of any of the `asked` that each of the texts holds, [texts]; both are token ids."""
    found = np.zeros(len(texts))
    theirs = _uncommon(_grams(asked, n), len(asked))
    if not len(theirs.hashes):
        return found
    lengths = np.ones(len(asked), dtype=np.int64)
    whole, tokens = _covered(np.zeros_like(theirs.text), theirs.text, theirs.place, n)
    lengths[whole[:, 1]] = tokens
    for first in range(0, len(texts), AT_ONCE):
        own = _grams(texts[first : first + AT_ONCE], n)
        start, stop = (np.searchsorted(theirs.hashes, own.hashes, side) for side in ("left", "right"))
        many = stop - start
        at = np.repeat(start - (many.cumsum() - many), many) + np.arange(many.sum())
        pairs, part = _covered(np.repeat(own.text, many), theirs.text[at], theirs.place[at], n)
        np.maximum.at(found, first + pairs[:, 0], part / lengths[pairs[:, 1]])
    return found


def _covered(text: Integers, of: Integers, place: Integers, n: int) -> tuple[Integers, Integers]:
    """Pairs of texts [pairs, 2], and how many tokens of the second lie in runs of n from these places on."""
    rows = np.unique(np.stack([text, of, place], 1), axis=0)
    if not len(rows):
        return rows[:, :2], rows[:, 2]
    pairs, which = np.unique(rows[:, :2], axis=0, return_inverse=True)
    which = which.reshape(-1)
    new = np.full(len(rows), n)
    new[:-1] = np.where(which[1:] == which[:-1], np.minimum(np.diff(rows[:, 2]), n), n)
    tokens = np.zeros(len(pairs), dtype=np.int64)
    np.add.at(tokens, which, new)
    return pairs, tokens


def _uncommon(grams: _Grams, texts: int) -> _Grams:
    """Those that are in few of so many texts."""
    once = np.unique(np.stack([grams.hashes, grams.text], 1), axis=0)
    hashes, many = np.unique(once[:, 0], return_counts=True)
    common = hashes[many > max(FEW, COMMON * texts)]
    keep = ~np.isin(grams.hashes, common)
    return _Grams(*(column[keep] for column in grams))


def _grams(texts: Sequence[Sequence[int]], n: int) -> _Grams:
    lengths = np.array([len(ids) for ids in texts], dtype=np.int64)
    tokens = np.array([token for ids in texts for token in ids], dtype=np.int64)
    text = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(tokens)) - np.repeat(lengths.cumsum() - lengths, lengths)
    whole = place + n <= lengths[text]
    factors = np.random.default_rng(0).integers(1 << 62, size=n) | 1
    hashes = np.zeros(max(0, len(tokens) - n + 1), dtype=np.int64)
    with np.errstate(over="ignore"):
        for at, factor in enumerate(factors):
            hashes += (tokens[at : at + len(hashes)] + 1) * factor
    whole = whole[: len(hashes)]
    order = np.argsort(hashes[whole], kind="stable")
    return _Grams(*(column[: len(whole)][whole][order] for column in (hashes, text, place)))
