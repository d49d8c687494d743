"""A corpus: tokenised documents in safetensors shards that are read through the memory map, larger than memory.

The manifest is JSON: what the corpus holds and the digests of its shards. The digest of its canonical form is the
identity of the corpus.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DamagedStore, RegraftError
from regraft.data.document import Document
from regraft.data.read import Reader
from regraft.data.shards import Draft, Index, map_shard, write
from regraft.data.tokenise import Encoded, Outcome, Tokeniser, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Manifest: TypeAlias = Mapping[str, Any]

FORMAT = 1
SHARD_TOKENS = 16_777_216


def build_corpus(
    reader: Reader,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache: Path,
    chat: bool | None = None,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    called: Sequence[str] | None = None,
) -> Corpus:
    """The reader's documents, tokenised; from the cache if the same content was tokenised before.

    One shard is held in memory at a time. Nothing is in the cache until the corpus is whole.

    Args:
        reader: the documents.
        tokenizer: a fast tokenizer; its own threads do the work (RAYON_NUM_THREADS sets how many).
        cache: a folder that any number of runs may share.
        chat: render `prompt`/`completion` rows by the chat template; `messages` always are.
        shard_tokens: a shard is closed at the first document that reaches this size.
        progress: called after each batch with the documents and tokens so far.
        called: what the corpus calls the files; none: their paths.

    Raises RegraftError for the first bad row (unless the reader skips them), DamagedStore for a damaged cache.
    """
    tokeniser = Tokeniser(tokenizer, chat=bool(chat))
    fingerprint = tokenizer_fingerprint(tokenizer)
    key = _cache_key(reader, fingerprint, bool(chat), shard_tokens)
    known, shards = cache / f"{key}.json", cache / "shards"
    names = list(called or [entry.path for entry in reader.files])

    def locate(digest: str) -> Path:
        return shards / f"{digest}.safetensors"

    if (manifest := _cached(known, locate)) is not None:
        return Corpus.open(_renamed(manifest, names), locate)
    with _building(cache) as folder:
        manifest = _build(reader, tokeniser, folder, shard_tokens, progress)
        manifest["tokenizer"] = fingerprint
        shards.mkdir(exist_ok=True)
        for shard in manifest["shards"]:
            (folder / shard["digest"]).replace(locate(shard["digest"]))
        write(folder / "manifest", canonical({"manifest": manifest, "digest": _digest(manifest)}))
        (folder / "manifest").replace(known)
    return Corpus.open(_renamed(manifest, names), locate, verify=False)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8: the bytes that a digest is taken of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(canonical(manifest)).hexdigest()


def _cache_key(reader: Reader, fingerprint: str, chat: bool, shard_tokens: int) -> str:
    files = [[entry.sha256, entry.format, entry.source, entry.in_folder] for entry in reader.files]
    unread = sorted((skip.why, skip.line) for skip in reader.unread)
    settings = [FORMAT, chat, shard_tokens, reader.skip_bad, reader.max_line_bytes]
    return hashlib.sha256(canonical([files, unread, settings, fingerprint])).hexdigest()


def _cached(known: Path, locate: Callable[[str], Path]) -> dict[str, Any] | None:
    if not known.exists():
        return None
    try:
        record = json.loads(known.read_bytes())
        manifest: dict[str, Any] = record["manifest"]
        whole = record["digest"] == _digest(manifest)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise DamagedStore("a damaged manifest", where=known, do="Delete it to tokenise again")
    return manifest if all(locate(shard["digest"]).exists() for shard in manifest["shards"]) else None


def _renamed(manifest: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The manifest for the same content under other paths."""
    files = [{**entry, "path": path} for entry, path in zip(manifest["files"], paths, strict=True)]
    now = {old["path"]: path for old, path in zip(manifest["files"], paths, strict=True)}
    skipped = [[now.get(path, path), line, why] for path, line, why in manifest["first_skipped"]]
    return {**manifest, "files": files, "first_skipped": skipped}


@contextlib.contextmanager
def _building(cache: Path) -> Iterator[Path]:
    """A folder in the cache, locked while this process lives and gone afterwards; those of killed runs are removed."""
    area = cache / "building"
    with contextlib.ExitStack() as held:
        try:
            area.mkdir(parents=True, exist_ok=True)
            with (area / "lock").open("wb") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                _remove_abandoned(area)
                folder = Path(tempfile.mkdtemp(dir=area))
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                fcntl.flock(held.enter_context((folder / "lock").open("wb")), fcntl.LOCK_EX)
        except OSError as error:
            raise RegraftError(f"the cache cannot be written: {error.strerror}", where=cache) from None
        yield folder


def _remove_abandoned(area: Path) -> None:
    for folder in (path for path in area.iterdir() if path.is_dir()):
        with contextlib.suppress(BlockingIOError), (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def _build(
    reader: Reader,
    tokeniser: Tokeniser,
    folder: Path,
    shard_tokens: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    small = tokeniser.largest_id < 1 << 16
    draft = Draft(np.dtype(np.uint16 if small else np.int32))
    sources: dict[str, int] = {}
    tags: dict[str, int] = {}
    kinds: set[str] = set()
    shards: list[dict[str, Any]] = []
    documents = tokens = 0
    for batch, outcomes in _tokenised(reader, tokeniser):
        for document, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Encoded):
                reader.reject(document, outcome)
                continue
            kinds.add(document.content.kind)
            source = sources.setdefault(document.source, len(sources))
            draft.add(document, outcome, source, [tags.setdefault(tag, len(tags)) for tag in document.tags])
            documents, tokens = documents + 1, tokens + len(outcome.ids)
            if draft.tokens >= shard_tokens:
                shards.append(draft.save(folder))
                draft = Draft(draft.dtype)
        if progress:
            progress(documents, tokens)
    reader.require_documents()
    if draft.tokens:
        shards.append(draft.save(folder))
    return {
        "format": FORMAT,
        "documents": documents,
        "tokens": tokens,
        "shards": shards,
        "files": [{"path": f.path, "sha256": f.sha256, "rows": f.rows} for f in reader.files],
        "sources": list(sources),
        "tag_names": list(tags),
        "kind": kinds.pop() if len(kinds) == 1 else "mixed",
        "skipped": dict(reader.skip_counts),
        "first_skipped": [[s.path, s.line, s.why] for s in reader.skipped],
        "ignored_keys": dict(reader.ignored_keys),
    }


def _tokenised(reader: Reader, tokeniser: Tokeniser) -> Iterator[tuple[list[Document], list[Outcome]]]:
    """Batches and what became of them; the next one is read and checked while the tokenizer's threads work."""
    with ThreadPoolExecutor(1) as pool:
        ahead: tuple[list[Document], Future[list[Outcome]]] | None = None
        for batch in reader:
            behind, ahead = ahead, (batch, pool.submit(tokeniser.encode, batch))
            if behind:
                yield behind[0], behind[1].result()
        if ahead:
            yield ahead[0], ahead[1].result()


@dataclass(frozen=True)
class _Part:
    """One manifest with its mapped shards."""

    manifest: Manifest
    shards: tuple[dict[str, NDArray[Any]], ...]

    @property
    def documents(self) -> int:
        return int(self.manifest["documents"])


class Corpus:
    """Tokenised documents: all of some shards, or a view of some of them. Document indices count within the view.

    Everything known of each document is one array over the documents, read when first asked for; tokens stay on disk.
    """

    def __init__(self, parts: Sequence[_Part], index: Index | None = None) -> None:
        self._parts = tuple(parts)
        self._index = index
        self._shards = [shard for part in self._parts for shard in part.shards]
        self._token_ends = np.cumsum([len(shard["tokens"]) for shard in self._shards], dtype=np.int64)
        self.sources: list[str] = _names(self._parts, "sources")
        self.tag_names: list[str] = _names(self._parts, "tag_names")

    @classmethod
    def open(cls, manifest: Manifest, locate: Callable[[str], Path], *, verify: bool = True) -> Corpus:
        """The corpus of a manifest, whose shards are the files `locate(digest)`.

        Raises DamagedStore for a missing shard and, with `verify`, for one whose content is not what its digest says.
        """
        if manifest.get("format") != FORMAT:
            raise DamagedStore(f"a corpus of format {manifest.get('format')!r}; this version reads {FORMAT}")
        digests = [shard["digest"] for shard in manifest["shards"]]
        with ThreadPoolExecutor() as pool:
            shards = tuple(pool.map(lambda digest: map_shard(locate(digest), digest if verify else None), digests))
        return cls([_Part(manifest, shards)])

    def __repr__(self) -> str:
        return f"Corpus({self.documents} documents, {self.tokens} tokens, {len(self.sources)} sources)"

    @property
    def manifests(self) -> list[Manifest]:
        """The manifests of the corpora in this one: of one that was built or opened, its only one."""
        return [part.manifest for part in self._parts]

    @property
    def digests(self) -> list[str]:
        """The identity of each corpus in this one: the SHA-256 of its canonical manifest."""
        return [_digest(manifest) for manifest in self.manifests]

    @property
    def files(self) -> list[str]:
        """The paths that `file` counts."""
        return [entry["path"] for part in self._parts for entry in part.manifest["files"]]

    @property
    def places(self) -> Index:
        """The place of each document among all documents of the corpora in this one, [documents]."""
        return np.arange(self.documents) if self._index is None else self._index

    @property
    def documents(self) -> int:
        return sum(part.documents for part in self._parts) if self._index is None else len(self._index)

    @cached_property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def lengths(self) -> Index:
        """Tokens of each document, its end-of-text token included, [documents]."""
        return self._chosen(np.concatenate([np.diff(shard["offsets"]) for shard in self._shards]))

    @cached_property
    def starts(self) -> Index:
        """The place of each document's first token among all tokens on disk, [documents], as `read` takes it."""
        bases = [0, *self._token_ends[:-1].tolist()]
        pairs = zip(self._shards, bases, strict=True)
        return self._chosen(np.concatenate([shard["offsets"][:-1] + base for shard, base in pairs]))

    @cached_property
    def ids(self) -> NDArray[np.uint8]:
        """The id of each document, [documents, 16]."""
        return self._chosen(self._column("ids"))

    @property
    def row_ids(self) -> list[str]:
        """The id of each document as 32 hex digits."""
        raw = self.ids.tobytes().hex()
        return [raw[at : at + 32] for at in range(0, len(raw), 32)]

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """How much each document counts, [documents]."""
        return self._chosen(self._column("weight"))

    @cached_property
    def line(self) -> Index:
        """The line or row of each document in its file, from 1, [documents]."""
        return self._chosen(self._column("line"))

    @cached_property
    def file(self) -> Index:
        """The place of each document's file in `files`, [documents]."""
        bases = [0, *np.cumsum([len(part.manifest["files"]) for part in self._parts]).tolist()]
        parts = zip(self._parts, bases[:-1], strict=True)
        return self._chosen(
            np.concatenate([s["file"].astype(np.int64) + base for part, base in parts for s in part.shards])
        )

    @cached_property
    def source(self) -> Index:
        """The place of each document's source in `sources`, [documents]."""
        place = {name: i for i, name in enumerate(self.sources)}
        maps = [np.array([place[name] for name in p.manifest["sources"]]) for p in self._parts]
        parts = zip(self._parts, maps, strict=True)
        return self._chosen(np.concatenate([names[s["source"]] for part, names in parts for s in part.shards]))

    @property
    def names(self) -> list[str | None]:
        """The id that each document's row had of its own, or None."""
        found = list(chain.from_iterable(_shard_names(shard) for shard in self._shards))
        return found if self._index is None else [found[i] for i in self._index]

    @property
    def supervised(self) -> bool:
        """Whether some tokens are not learned from."""
        return any("supervised" in shard for shard in self._shards)

    def tagged(self, tag: str) -> NDArray[np.bool_]:
        """Whether each document has the tag, [documents]."""
        if tag not in self.tag_names:
            raise RegraftError(f"no tag {tag!r}; the corpus has {', '.join(self.tag_names) or 'none'}")
        masks = [_shard_tagged(shard, part.manifest["tag_names"], tag) for part in self._parts for shard in part.shards]
        return self._chosen(np.concatenate(masks))

    def read(self, places: Index) -> Index:
        """The tokens at `places` (see `starts`), of the same shape."""
        return self._read("tokens", places)

    def read_supervised(self, places: Index) -> NDArray[np.bool_]:
        """Whether the tokens at `places` are learned from, of the same shape."""
        return self._read("supervised", places).astype(bool)

    def document(self, index: int) -> Index:
        """The tokens of one document."""
        return self.read(self.starts[index] + np.arange(self.lengths[index]))

    def select(self, index: Index | NDArray[np.bool_]) -> Corpus:
        """The documents at `index`, in that order, or where a mask [documents] is true."""
        chosen = np.arange(self.documents)[index]
        return Corpus(self._parts, chosen if self._index is None else self._index[chosen])

    def split(self, share: float, *, at_least: int = 8, at_most: int | None = None) -> tuple[Corpus, Corpus]:
        """The corpus without its held-out documents, and those.

        Which documents are held out follows from their ids, and copies fall on the same side. `at_least` (never more
        than half) and `at_most` count different documents; where they bind, the smallest hashes are taken, and how many
        those are depends on the corpus.
        """
        if not 0 <= share < 1:
            raise RegraftError(f"the held-out share must be at least 0 and under 1, not {share}")
        hashes = np.ascontiguousarray(self.ids[:, 8:]).view(">u8")[:, 0].astype(np.uint64)
        distinct = np.unique(hashes)
        count = int(np.searchsorted(distinct, np.uint64(int(share * 2**64))))
        count = max(count, min(at_least, len(distinct) // 2) if share else 0)
        count = count if at_most is None else min(count, at_most)
        held = np.isin(hashes, distinct[: min(count, len(distinct) - 1)])
        return self.select(~held), self.select(held)

    def _column(self, name: str) -> NDArray[Any]:
        return np.concatenate([shard[name] for shard in self._shards])

    def _chosen(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self._index is None else column[self._index]

    def _read(self, name: str, places: Index) -> Index:
        owner = np.searchsorted(self._token_ends, places, side="right")
        found = np.ones(places.shape, dtype=np.int64)
        for shard in np.unique(owner).tolist():
            tensors = self._shards[shard]
            if name in tensors:
                mine = owner == shard
                found[mine] = tensors[name][places[mine] - (self._token_ends[shard] - len(tensors["tokens"]))]
        return found


def concat(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora, or views of them, as one, in this order. They must be of one tokenizer."""
    if not corpora:
        raise RegraftError("no corpora to put together")
    if len({manifest["tokenizer"] for corpus in corpora for manifest in corpus.manifests}) > 1:
        raise RegraftError("the corpora were tokenised with different tokenizers", do="Build them again with one")
    bases = accumulate((sum(part.documents for part in corpus._parts) for corpus in corpora), initial=0)
    index = [base + corpus.places for base, corpus in zip(bases, corpora, strict=False)]
    return Corpus([part for corpus in corpora for part in corpus._parts], np.concatenate(index))


def _names(parts: Sequence[_Part], key: str) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.manifest[key]))


def _shard_names(shard: dict[str, NDArray[Any]]) -> list[str | None]:
    if "names" not in shard:
        return [None] * len(shard["ids"])
    raw, ends = shard["names"].tobytes(), shard["name_offsets"].tolist()
    return [raw[start:end].decode() or None for start, end in pairwise(ends)]


def _shard_tagged(shard: dict[str, NDArray[Any]], names: Sequence[str], tag: str) -> NDArray[np.bool_]:
    mask = np.zeros(len(shard["ids"]), dtype=bool)
    if tag in names:
        owner = np.repeat(np.arange(len(mask)), np.diff(shard["tag_offsets"]))
        mask[owner[shard["tag_ids"] == names.index(tag)]] = True
    return mask
