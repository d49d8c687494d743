"""What a version is: an immutable manifest, named by its digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store.documents import JSON
from regraft.store.files import inside
from regraft.store.tensorfile import Layout, size_of

FORMAT = 1


@dataclass(frozen=True)
class TensorRef:
    """A stored tensor: the SHA-256 of its file, the dtype's name in torch, its shape, the bytes of its values."""

    digest: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def layout(self) -> Layout:
        return self.dtype, self.shape


@dataclass(frozen=True)
class CorpusUse:
    """A corpus that touched a version.

    Attributes:
        corpus: digest of the corpus' manifest.
        role: what its rows were for: "new", "replay", "held-out", ...
        touched: bitmap [ceil(documents / 8), uint8] in numpy.packbits order, one bit a document; None means all.
    """

    corpus: str
    role: str
    touched: TensorRef | None = None


@dataclass(frozen=True)
class Draft:
    """The whole content of a version. Two drafts with equal content become one version, whenever and wherever made,
    so nothing here may depend on time or place.

    Attributes:
        parents: ids of the versions it was made from, the main one first.
        bundles: bundle name ("release", "master", "memory/ewc", ...) -> tensor name -> stored tensor.
        files: name in an exported folder (config.json, tokenizer.json, ...) -> digest.
        record: the recipe's calls with knobs and seeds.
        evidence: what was measured.
        corpora: the rows that touched it; their order means nothing.
        message: one line for people.
    """

    parents: tuple[str, ...] = ()
    bundles: Mapping[str, Mapping[str, TensorRef]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    record: JSON = None
    evidence: JSON = None
    corpora: tuple[CorpusUse, ...] = ()
    message: str = ""

    def manifest(self) -> JSON:
        """The document whose digest is the version's id."""
        return {
            "format": FORMAT,
            "kind": "version",
            "parents": list(self.parents),
            "bundles": {b: {n: _ref_json(r) for n, r in tensors.items()} for b, tensors in self.bundles.items()},
            "files": {inside(name, f"version {self.message!r}"): digest for name, digest in self.files.items()},
            "record": self.record,
            "evidence": self.evidence,
            "corpora": sorted((_use_json(use) for use in self.corpora), key=str),
            "message": self.message,
        }

    def blobs(self) -> dict[str, int | None]:
        """Digest of every tensor, file and bitmap it names -> bytes of the values, where known."""
        refs = [ref for tensors in self.bundles.values() for ref in tensors.values()]
        refs += [use.touched for use in self.corpora if use.touched]
        named: dict[str, int | None] = dict.fromkeys([*self.files.values(), *(use.corpus for use in self.corpora)])
        return named | {ref.digest: ref.bytes for ref in refs}


def _ref_json(ref: TensorRef) -> dict[str, JSON]:
    return {"digest": ref.digest, "dtype": ref.dtype, "shape": list(ref.shape)}


def _use_json(use: CorpusUse) -> dict[str, JSON]:
    return {"corpus": use.corpus, "role": use.role, "touched": _ref_json(use.touched) if use.touched else None}


def draft_of(document: Any, where: Path) -> Draft:
    """The draft that a manifest describes; every digest, shape and path in it is checked before anyone uses it.

    Raises:
        DamagedStore: it is not a version's manifest.
        RegraftError: it is of a newer format, or names a file outside the folder.
    """
    try:
        if document["kind"] != "version":
            raise ValueError(f"kind is {document['kind']!r}")
        if document["format"] > FORMAT:
            raise RegraftError("this version was written by a newer regraft", where=where, do="Upgrade regraft")
        return Draft(
            parents=tuple(_digest(parent) for parent in document["parents"]),
            bundles={
                bundle: {name: _ref_of(ref) for name, ref in tensors.items()}
                for bundle, tensors in document["bundles"].items()
            },
            files={inside(name, where): _digest(digest) for name, digest in document["files"].items()},
            record=document["record"],
            evidence=document["evidence"],
            corpora=tuple(_use_of(use) for use in document["corpora"]),
            message=str(document["message"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedStore(f"is not the manifest of a version ({error})", where=where) from None


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise ValueError(f"{value!r} is not a digest")
    return value


def _ref_of(entry: Any) -> TensorRef:
    dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return TensorRef(_digest(entry["digest"]), dtype, shape, size_of((dtype, shape)))


def _use_of(entry: Any) -> CorpusUse:
    touched = entry["touched"]
    return CorpusUse(_digest(entry["corpus"]), str(entry["role"]), None if touched is None else _ref_of(touched))


def is_digest(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


@dataclass(frozen=True)
class Version:
    """One version of a line. What the ledger knows is there at once; the manifest is read, verified, when asked for.

    Attributes:
        id: SHA-256 of the manifest.
        number: running number in this line; never used twice. `name` is "v3".
        parents: ids, the main one first.
        message: one line for people.
        time: when it was first committed here (UTC, ISO 8601).
    """

    id: str
    number: int
    parents: tuple[str, ...]
    message: str
    time: str
    _read: Callable[[], Draft] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"v{self.number}"

    @cached_property
    def content(self) -> Draft:
        return self._read()

    @property
    def bundles(self) -> Mapping[str, Mapping[str, TensorRef]]:
        return self.content.bundles

    @property
    def files(self) -> Mapping[str, str]:
        return self.content.files

    @property
    def record(self) -> Any:
        return self.content.record

    @property
    def evidence(self) -> Any:
        return self.content.evidence

    @property
    def corpora(self) -> tuple[CorpusUse, ...]:
        return self.content.corpora
