"""Shards: the documents of a corpus in safetensors files, written whole and read through the memory map.

A shard holds `tokens` [N] (uint16, or int32 for vocabularies past 65536), `offsets` [D+1] int64, and for each of
its D documents `ids` [D, 16] uint8, `file` [D] int32, `line` [D] int64, `weight` [D] float32, `source` [D] int32 and
its tags as `tag_offsets` [D+1] int64 and `tag_ids` int32; `supervised` [N] uint8 where some token is not learned
from; `names` (UTF-8) and `name_offsets` [D+1] int64 where rows had an id of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DamagedStore, RegraftError
from regraft.data.document import Document
from regraft.data.tokenise import Encoded

Index: TypeAlias = NDArray[np.int64]

_DTYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "I64": "<i8", "F32": "<f4"}


@dataclass
class Draft:
    """The one shard that is in memory."""

    dtype: np.dtype[Any]
    tokens: int = 0
    chunks: list[NDArray[Any]] = field(default_factory=list)
    supervised: list[NDArray[np.bool_] | None] = field(default_factory=list)
    tags: list[list[int]] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    rows: list[tuple[bytes, int, int, float, int]] = field(default_factory=list)

    def add(self, document: Document, encoded: Encoded, source: int, tags: list[int]) -> None:
        self.chunks.append(np.array(encoded.ids, dtype=self.dtype))
        self.supervised.append(encoded.supervised)
        self.rows.append((document.id, document.file, document.line, document.weight, source))
        self.tags.append(tags)
        self.names.append((document.name or "").encode())
        self.tokens += len(encoded.ids)

    def save(self, folder: Path) -> dict[str, Any]:
        from safetensors.numpy import save

        raw = save(self._tensors())
        digest = hashlib.sha256(raw).hexdigest()
        write(folder / digest, raw)
        return {"digest": digest, "documents": len(self.rows), "tokens": self.tokens, "bytes": len(raw)}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        ids, file, line, weight, source = zip(*self.rows, strict=True)
        tensors = {
            "tokens": np.concatenate(self.chunks),
            "offsets": _offsets(self.chunks),
            "ids": np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16),
            "file": np.array(file, dtype=np.int32),
            "line": np.array(line, dtype=np.int64),
            "weight": np.array(weight, dtype=np.float32),
            "source": np.array(source, dtype=np.int32),
            "tag_offsets": _offsets(self.tags),
            "tag_ids": np.array(list(chain.from_iterable(self.tags)), dtype=np.int32),
        }
        if any(mask is not None for mask in self.supervised):
            pairs = zip(self.supervised, self.chunks, strict=True)
            masks = [np.ones(len(chunk), dtype=bool) if mask is None else mask for mask, chunk in pairs]
            tensors["supervised"] = np.concatenate(masks).astype(np.uint8)
        if any(self.names):
            tensors["names"] = np.frombuffer(b"".join(self.names), dtype=np.uint8)
            tensors["name_offsets"] = _offsets(self.names)
        return tensors


def _offsets(parts: Iterable[Any]) -> Index:
    return np.array([0, *accumulate(map(len, parts))], dtype=np.int64)


def write(path: Path, raw: bytes) -> None:
    """Write and sync a new file."""
    try:
        with path.open("wb") as handle:
            handle.write(raw)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise RegraftError(f"the cache cannot be written: {error.strerror}", where=path.parent) from None


def map_shard(path: Path, digest: str | None) -> dict[str, NDArray[Any]]:
    """The tensors of a shard, mapped and not read; with `digest`, the whole file is read once and verified."""
    try:
        raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError):
        raise DamagedStore("a shard of a corpus is missing or empty", where=path) from None
    if digest is not None and hashlib.sha256(raw.data).hexdigest() != digest:
        raise DamagedStore("the content of a shard is not what its digest says", where=path)
    start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
    header: dict[str, dict[str, Any]] = json.loads(raw[8:start].tobytes())
    return {name: _tensor(raw[start:], **entry) for name, entry in header.items()}


def _tensor(raw: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[Any]:
    return raw[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
