"""The texts of an update: what is new, what the model was trained on before, and what is held out of both."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.data.corpus import Corpus, build_corpus, concat
from regraft.data.pack import Blocks
from regraft.data.read import documents
from regraft.store import CorpusUse, Line, TensorRef, Version

HELD_OUT, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.05, 40, 400


@dataclass(frozen=True)
class Text:
    """One corpus of a line: what may be trained on and what is held out, which its rows' ids alone decide."""

    digest: str
    name: str
    train: Corpus
    held: Corpus

    @classmethod
    def open(cls, line: Line, digest: str, *, name: str | None = None) -> Text:
        return cls.of(Corpus.open(line.corpus(digest), line.file, verify=False), name=name)

    @classmethod
    def of(cls, corpus: Corpus, *, name: str | None = None) -> Text:
        """A corpus that was read as one, whether a line knows it or not."""
        [digest] = corpus.digests
        train, held = corpus.split(HELD_OUT, at_least=FEWEST_HELD_OUT, at_most=MOST_HELD_OUT)
        return cls(digest, name or _name(corpus.files), train, held)


def cache_folder() -> Path:
    """Where tokenised texts are kept between updates: $REGRAFT_CACHE, or the user's cache folder."""
    own = os.environ.get("REGRAFT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "regraft")


def read(
    paths: Sequence[str],
    tokenizer: Any,
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    called: Sequence[str] | None = None,
) -> Corpus:
    """Texts, read and tokenised in the cache: no line knows them yet; `called`: what it calls the files."""
    if tokenizer is None:
        raise RegraftError(
            "the model has no tokenizer, so it cannot read text", do="Adopt a folder that has its tokenizer.json"
        )
    reader = documents(paths, skip_bad=skip_bad)
    return build_corpus(reader, tokenizer, cache=cache_folder(), progress=progress, called=called)


def store(line: Line, corpus: Corpus) -> str:
    """Puts a text that `read` gave into the line; the corpus' digest."""
    [manifest] = corpus.manifests
    return line.add_corpus(
        manifest, [cache_folder() / "shards" / f"{s['digest']}.safetensors" for s in manifest["shards"]]
    )


def past(line: Line, base: Version) -> list[tuple[Text, Corpus]]:
    """What the lineage of `base` was trained on: each text with the documents that really touched it.

    Oldest first; of one version, what was kept before what was new.
    """
    found: dict[str, tuple[Text, np.ndarray[Any, np.dtype[np.bool_]]]] = {}
    for version in lineage(line, base):
        for use in sorted(version.corpora, key=lambda use: (use.role, use.corpus)):
            if use.role not in ("new", "kept"):
                continue
            if use.corpus not in found:
                text = Text.open(line, use.corpus)
                found[use.corpus] = text, np.zeros(line.corpus(use.corpus)["documents"], dtype=bool)
            found[use.corpus][1][:] |= touched(line, use, len(found[use.corpus][1]))
    return [(text, text.train.select(seen[text.train.places])) for text, seen in found.values()]


def elsewhere(line: Line, base: Version) -> list[Text]:
    """The texts that versions outside the lineage of `base` were trained on, and it was not."""
    own = lineage(line, base)
    mine, others = (
        {use.corpus for version in versions for use in version.corpora if use.role in ("new", "kept")}
        for versions in (own, [v for v in line.versions() if v.id not in {o.id for o in own}])
    )
    return [Text.open(line, digest) for digest in sorted(others - mine)]


def lineage(line: Line, version: Version) -> list[Version]:
    """The version and its ancestors by first parent, oldest first."""
    chain = [version]
    while chain[-1].parents:
        chain.append(line.version(chain[-1].parents[0]))
    return chain[::-1]


def touched(line: Line, use: CorpusUse, count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of a corpus' documents a use names, [count]."""
    if use.touched is None:
        return np.ones(count, dtype=bool)
    return np.unpackbits(line.tensor(use.touched).numpy(), count=count).astype(bool)


def uses(line: Line, role: str, blocks: Blocks, seen: Tensor) -> list[CorpusUse]:
    """The documents that lie in the blocks that were drawn, by corpus."""
    corpus = blocks.corpus
    places = corpus.places[blocks.documents_of(seen.nonzero()[:, 0].numpy())]
    found, at = [], 0
    for digest, manifest in zip(corpus.digests, corpus.manifests, strict=True):
        count = manifest["documents"]
        mask = np.zeros(count, dtype=bool)
        mask[places[(places >= at) & (places < at + count)] - at] = True
        if mask.any():
            ref: TensorRef = line.put_tensor(torch.from_numpy(np.packbits(mask)))
            found.append(CorpusUse(digest, role, ref))
        at += count
    return found


def by_source(corpus: Corpus) -> Mapping[str, Corpus]:
    """The documents of each source."""
    return {
        name: corpus.select(corpus.source == i) for i, name in enumerate(corpus.sources) if (corpus.source == i).any()
    }


def union(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one."""
    return corpora[0] if len(corpora) == 1 else concat(corpora)


def _name(files: Sequence[str]) -> str:
    """A short name for a text: its files', without suffixes; their folder's where they are many."""
    names = list(dict.fromkeys(Path(file.rstrip("/")).stem for file in files))
    folders = {Path(file).parent.name for file in files}
    if len(names) > 3 and len(folders) == 1 and (folder := folders.pop()):
        return folder
    return "+".join(names[:3]) + ("+…" if len(names) > 3 else "") if names else "text"
