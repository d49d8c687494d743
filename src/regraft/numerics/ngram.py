"""N-gram statistics over token ids, in sorted arrays: a Kneser-Ney language model, and hashed bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regraft.core.errors import RegraftError

Integers = NDArray[np.int64]
Vector = NDArray[np.float64]

USUAL_DISCOUNT = 0.75
"""Absolute discount where the counts of counts cannot tell it (Chen and Goodman 1999)."""


@dataclass(frozen=True, eq=False)
class _Order:
    """The k-grams of one order.

    A k-gram's key is (id of its last k - 1 tokens) · (symbols) + (its first token), its id the rank of the key.
    `count` [k-grams] after discounting, at least 0; `total` [(k-1)-grams] and `spare` [(k-1)-grams]: what a context's
    counts add up to, and how much of it the discount left for shorter contexts.
    """

    keys: Integers
    count: Vector
    total: Vector
    spare: Vector


@dataclass(frozen=True, eq=False)
class KneserNey:
    """Interpolated Kneser-Ney (Kneser and Ney 1995; interpolated as in Chen and Goodman 1999), one discount an order.

        p_k(w | h) = (max(c(hw) - D_k, 0) + D_k · |{v: c(hv) > 0}| · p_{k-1}(w | h')) / c(h)       p_0 = 1 / V

    h' is h without its first token; c counts occurrences at the highest order, and below it how many different tokens
    come before; D_k = n1 / (n1 + 2 n2). A context never seen passes to the shorter one. Documents begin with padding
    that is never predicted.

    Attributes:
        seen: ids of the tokens of the fit, rising; every other id is the one unknown token, so V = len(seen) + 1.
    """

    seen: Integers
    orders: tuple[_Order, ...]

    @classmethod
    def fit(cls, documents: Sequence[ArrayLike], *, order: int) -> KneserNey:
        """The model of `documents`, token ids [tokens] each.

        Raises:
            RegraftError: an order below 1, no token at all, or ids that are not whole numbers.
        """
        if order < 1:
            raise RegraftError(f"an n-gram model of order {order} predicts nothing", do="Give an order of at least 1")
        tokens, lengths = _flat(documents)
        if not tokens.size:
            raise RegraftError("no token to fit an n-gram model to")
        seen = np.unique(tokens)
        text = _Text(np.searchsorted(seen, tokens), lengths, order, pad=len(seen) + 1)
        grams = [text.tokens()]
        for k in range(2, order + 1):
            grams.append(text.longer(k, grams[-1][1]))
        orders = []
        for k, (keys, ids) in enumerate(grams, start=1):
            if k == order:
                seen_at = ids[text.real]
            else:
                longer, longer_ids = grams[k]
                seen_at = longer[np.unique(longer_ids[text.real])] // text.symbols
            count = np.bincount(seen_at, minlength=len(keys)).astype(np.float64)
            orders.append(_order(keys, count, _contexts(text, grams, k), 1 if k == 1 else len(grams[k - 2][0])))
        return cls(seen, tuple(orders))

    def log_probs(self, documents: Sequence[ArrayLike]) -> list[Vector]:
        """Natural log-probability of every token given those before it in its document, [tokens] each."""
        tokens, lengths = _flat(documents)
        return np.split(np.log(self._probs(tokens, lengths)), np.cumsum(lengths))[:-1]

    def log_perplexity(self, documents: Sequence[ArrayLike], *, first: int = 0) -> Vector:
        """Mean negative log-probability of each document's tokens in nats, [documents].

        Raises:
            RegraftError: a document without tokens; errors call the first document number `first`.
        """
        tokens, lengths = _flat(documents, first)
        if empty := np.flatnonzero(lengths == 0).tolist():
            raise RegraftError("no tokens, so no perplexity", where=f"document {first + empty[0]}", do="Leave it out")
        nats = -np.log(self._probs(tokens, lengths))
        return np.bincount(np.repeat(np.arange(len(lengths)), lengths), nats) / lengths

    def _probs(self, tokens: Integers, lengths: Integers) -> Vector:
        near = np.searchsorted(self.seen, tokens).clip(max=len(self.seen) - 1)
        symbols = np.where(self.seen[near] == tokens, near, len(self.seen))
        text = _Text(symbols, lengths, len(self.orders), pad=len(self.seen) + 1)
        p = np.full(len(tokens), 1 / (len(self.seen) + 1))
        ids = context = np.zeros(len(tokens), dtype=np.int64)
        for k, level in enumerate(self.orders, start=1):
            ids = text.tokens()[1] if k == 1 else text.longer(k, ids, level.keys)[1]
            gram, known = ids[text.real], context >= 0
            count = np.where(gram >= 0, level.count[gram], 0.0)
            total = np.where(known, level.total[context], 0.0)
            below = np.where(known, level.spare[context], 0.0) * p
            p = np.where(total > 0, (count + below) / np.where(total > 0, total, 1.0), p)
            context = ids[text.real - 1]
        return p


class _Text:
    """Documents end to end, order - 1 pads before each, and the ids of the n-grams that end at each place.

    `real`: the places of tokens, in order. Places where no n-gram of interest ends have the id -1.
    """

    def __init__(self, symbols: Integers, lengths: Integers, order: int, pad: int) -> None:
        # One pad is there at any rate, so that the place before a token always exists.
        pads = max(order - 1, 1)
        self.order, self.symbols = order, pad + 1
        self.real = np.arange(len(symbols)) + np.repeat(pads * np.arange(1, len(lengths) + 1), lengths)
        self.stream = np.full(len(symbols) + pads * len(lengths), pad)
        self.stream[self.real] = symbols

    def tokens(self) -> tuple[Integers, Integers]:
        """Keys of the 1-grams, and the id at every place."""
        return np.arange(self.symbols), self.stream

    def longer(self, k: int, suffix: Integers, keys: Integers | None = None) -> tuple[Integers, Integers]:
        """Keys of the k-grams, and the id at every place, from the ids of the (k-1)-grams; or ids in the given keys."""
        # The pad before a token ends contexts, but no n-gram of the highest order.
        ends = self.real if k == self.order else np.union1d(self.real, self.real - 1)
        joint = np.where(suffix[ends] >= 0, suffix[ends] * self.symbols + self.stream[ends - k + 1], -1)
        ids = np.full(len(self.stream), -1)
        if keys is None:
            keys, ids[ends] = np.unique(joint, return_inverse=True)
        else:
            near = np.searchsorted(keys, joint).clip(max=len(keys) - 1)
            ids[ends] = np.where(keys[near] == joint, near, -1)
        return keys, ids


def _contexts(text: _Text, grams: list[tuple[Integers, Integers]], k: int) -> Integers:
    """The id of the context of every k-gram that ends in a token; 0 for the empty context and for other k-grams."""
    keys, ids = grams[k - 1]
    context = np.zeros(len(keys), dtype=np.int64)
    if k > 1:
        context[ids[text.real]] = grams[k - 2][1][text.real - 1]
    return context


def _order(keys: Integers, count: Vector, context: Integers, contexts: int) -> _Order:
    n1, n2 = int((count == 1).sum()), int((count == 2).sum())
    D = n1 / (n1 + 2 * n2) if n1 and n2 else USUAL_DISCOUNT
    total, kinds = (np.bincount(context, c, contexts).astype(np.float64) for c in (count, count > 0))
    return _Order(keys, np.maximum(count - D, 0), total, D * kinds)


def ngram_bags(domains: Sequence[Sequence[ArrayLike]], *, order: int = 2, width: int = 1 << 16) -> Vector:
    """Hashed counts of the n-grams of each domain's documents, [domains, width]; `order` tokens an n-gram.

    N-grams that share a bucket are counted as one: with `width` well above the number of frequent n-grams, cosines of
    bags hardly move (Weinberger et al. 2009).
    """
    bags = np.zeros((len(domains), width))
    for bag, documents in zip(bags, domains, strict=True):
        tokens, lengths = _flat(documents)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        last = max(len(tokens) - order + 1, 0)
        whole = owner[:last] == owner[order - 1 :][:last]
        code = np.zeros(last, dtype=np.uint64)
        for i in range(order):
            code = (code ^ tokens[i : i + last].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            code ^= code >> np.uint64(29)
        bag += np.bincount((code[whole] % np.uint64(width)).astype(np.int64), minlength=width)
    return bags


def _flat(documents: Sequence[ArrayLike], first: int = 0) -> tuple[Integers, Integers]:
    """All tokens end to end, and the length of each document."""
    arrays = [np.asarray(d) for d in documents]
    for i, a in enumerate(arrays, start=first):
        if a.ndim != 1 or (a.size and a.dtype.kind not in "iu"):
            raise RegraftError(
                f"tokens must be a list of whole numbers, not {a.dtype} {list(a.shape)}", where=f"document {i}"
            )
    lengths = np.array([a.size for a in arrays], dtype=np.int64)
    return np.concatenate([np.zeros(0, dtype=np.int64), *(a for a in arrays if a.size)]).astype(np.int64), lengths
