"""Suites: what a version is measured on. Each measures a model and gives one value per document or item.

`HeldOut` is the loss on documents that were not trained on. `Items` are questions that are right or wrong: multiple
choice by log-likelihood, or an exact answer by greedy decoding. Skills are the items' tags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError
from regraft.data.corpus import Corpus, build_corpus
from regraft.data.read import documents
from regraft.data.tokenise import tokenizer_fingerprint
from regraft.evidence.items import Items, Normalise, digest, one_line, rows
from regraft.evidence.readings import Reading
from regraft.evidence.scoring import Index, Pieces, Vector, counting, score
from regraft.models.causal import CausalLM

_CHUNK_TOKENS = 1 << 22
_PREVIEW_TOKENS = 32
_ITEM_SUFFIXES = (".jsonl", ".ndjson", ".json")
_KEYS = {"choices", "answer", "text", "messages", "prompt"}
_FIRST_ROWS = 100


class Suite(Protocol):
    """What a model can be measured on.

    `fingerprint` is a digest of the items and of how they are scored, whatever the tokenizer: readings with the same
    fingerprint can be compared.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def skipped(self) -> Mapping[str, int]:
        """How many documents or items were passed over, by reason."""
        ...

    def measure(self, model: CausalLM, *, batch_tokens: int | None = None) -> Reading:
        """One value per document or item. Raises RegraftError for what the model cannot read."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Loss on held-out documents: the mean negative log-likelihood of each document's tokens, in nats per token.

    Documents longer than the context are cut into windows of the context, each read as if the document began there, as
    in training. A document's first token is never a target; tokens that are not supervised do not count. Copies of a
    document are measured once, and a document without a token that counts is not measured.

    Args:
        name: of the suite.
        corpus: the documents, tokenised for the models that will be measured.
        context: tokens of a window.
        passed_over: how many rows were not read into the corpus, by reason. A corpus that was split does not say which
            of its rows would have fallen here.
    """

    name: str
    corpus: Corpus
    context: int
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.context < 1:
            raise RegraftError(f"the context must be at least 1 token, not {self.context}", where=self.name)
        if not self.corpus.documents:
            raise RegraftError("no documents to measure on", where=self.name)

    @cached_property
    def fingerprint(self) -> str:
        ids = self._measured.ids
        ordered = ids[np.lexsort(ids.T[::-1])]
        return digest(["held-out", self.context, self.corpus.supervised, hashlib.sha256(ordered.tobytes()).hexdigest()])

    @property
    def skipped(self) -> Mapping[str, int]:
        short = int((self.corpus.lengths < 2).sum())
        copies = self.corpus.documents - short - self._measured.documents
        counts = {**self.passed_over, "fewer than 2 tokens": short, "a copy of another document": copies}
        return {why: count for why, count in counts.items() if count}

    @cached_property
    def _measured(self) -> Corpus:
        long = self.corpus.select(self.corpus.lengths >= 2)
        first = np.unique(long.ids, axis=0, return_index=True)[1]
        return long.select(np.sort(first))

    def measure(self, model: CausalLM, *, batch_tokens: int | None = None) -> Reading:
        self._check(model)
        corpus = self._measured
        scored = [self._score(model, corpus.select(chunk), batch_tokens) for chunk in _chunks(corpus.lengths)]
        total, counted = (np.concatenate(column) for column in zip(*scored, strict=True))
        kept = np.flatnonzero(counted)
        if not len(kept):
            raise RegraftError("no document has a token to predict", where=self.name)
        corpus = corpus.select(kept)
        return Reading(
            suite=self.name,
            fingerprint=self.fingerprint,
            unit="nats/token",
            lower_is_better=True,
            ids=tuple(corpus.row_ids),
            values=-total[kept] / counted[kept],
            weights=counted[kept],
            tags=_corpus_tags(corpus),
            texts=_openings(corpus, model.tokenizer),
        )

    def _check(self, model: CausalLM) -> None:
        if model.context is not None and self.context > model.context:
            raise RegraftError(
                f"a context of {self.context} tokens is longer than the model's {model.context}", where=self.name
            )
        if model.tokenizer is None:
            return
        mine = tokenizer_fingerprint(model.tokenizer)
        if any(manifest["tokenizer"] != mine for manifest in self.corpus.manifests):
            raise RegraftError(
                "the documents were tokenised for another tokenizer than the model's",
                where=self.name,
                do="Build the suite again with the model's own",
            )

    def _score(self, model: CausalLM, corpus: Corpus, batch_tokens: int | None) -> tuple[Vector, Vector]:
        """Summed log-probability and number of the targets of each document, both [documents]."""
        lengths = corpus.lengths
        begins = lengths.cumsum() - lengths
        places = np.repeat(corpus.starts, lengths) + counting(lengths)
        counted = corpus.read_supervised(places) if corpus.supervised else np.ones(len(places), dtype=bool)
        windows = -(-(lengths - 1) // self.context)
        owner = np.repeat(np.arange(len(lengths)), windows)
        offset = counting(windows) * self.context
        pieces = Pieces(
            tokens=corpus.read(places),
            counted=counted,
            starts=begins[owner] + offset,
            lengths=np.minimum(self.context, lengths[owner] - 1 - offset),
        )
        scores = score(model, pieces, where=self.name, batch_tokens=batch_tokens)
        return _summed(owner, scores.log_prob, lengths), _summed(owner, scores.targets, lengths)


def load_suites(
    paths: Sequence[str | Path],
    *,
    tokenizer: Any,
    cache: Path,
    context: int,
    normalise: Normalise = "none",
    stop: str | None = None,
    skip_bad: bool = False,
) -> list[HeldOut | Items]:
    """Suites from files: items where the first usable row has `choices` or an `answer`, else documents for their loss.

    Args:
        paths: files (or folders of documents); a suite's name is the stem of its file.
        tokenizer: the models' own, for documents.
        cache: the folder of tokenised documents, as for `build_corpus`.
        context: tokens of a window of `HeldOut`.
        normalise, stop: of multiple choices and of exact answers, see `Items`.
        skip_bad: pass over bad rows and count them.

    Raises RegraftError for what cannot be read and for two files of one stem.
    """
    suites: dict[str, HeldOut | Items] = {}
    origin: dict[str, Path] = {}
    for path in map(Path, paths):
        name = path.name if path.is_dir() else path.stem
        if name in suites:
            raise RegraftError(f"a suite {name!r} was already read from {origin[name]}", where=path, do="Rename one")
        origin[name] = path
        if _holds_items(path):
            suites[name] = Items.read(path, normalise=normalise, stop=stop, skip_bad=skip_bad)
            continue
        if tokenizer is None:
            raise RegraftError(
                "the model has no tokenizer, so it cannot read text", do="Adopt a folder that has its tokenizer.json"
            )
        corpus = build_corpus(documents([str(path)], skip_bad=skip_bad), tokenizer, cache=cache)
        suites[name] = HeldOut(name, corpus, context, corpus.manifests[0]["skipped"])
    return list(suites.values())


def _chunks(lengths: Index) -> Iterator[Index]:
    """Runs of documents of about `_CHUNK_TOKENS` tokens, so that no more are in memory."""
    run = (lengths.cumsum() - lengths) // _CHUNK_TOKENS
    cuts = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(lengths)]
    return (np.arange(begin, end) for begin, end in pairwise(cuts))


def _summed(owner: Index, values: NDArray[Any], documents: Index) -> Vector:
    sums: Vector = np.bincount(owner, values, len(documents)).astype(np.float64)
    return sums


def _corpus_tags(corpus: Corpus) -> tuple[tuple[str, ...], ...]:
    tags: list[list[str]] = [[] for _ in range(corpus.documents)]
    for tag in corpus.tag_names:
        for at in np.flatnonzero(corpus.tagged(tag)).tolist():
            tags[at].append(tag)
    return tuple(map(tuple, tags))


def _openings(corpus: Corpus, tokenizer: Any) -> tuple[str, ...]:
    if tokenizer is None:
        return ()
    lengths = np.minimum(corpus.lengths, _PREVIEW_TOKENS)
    flat = corpus.read(np.repeat(corpus.starts, lengths) + counting(lengths)).tolist()
    cuts = pairwise([0, *lengths.cumsum().tolist()])
    texts = tokenizer.batch_decode([flat[begin:end] for begin, end in cuts], skip_special_tokens=True)
    return tuple(one_line(text) for text in texts)


def _holds_items(path: Path) -> bool:
    if path.suffix.lower() not in _ITEM_SUFFIXES or not path.is_file():
        return False
    first = (row for _, row in islice(rows(path), _FIRST_ROWS) if isinstance(row, dict) and _KEYS & row.keys())
    return not {"choices", "answer"}.isdisjoint(next(first, {}))
