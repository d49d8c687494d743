"""Which rows: an index of a corpus' row ids, stored as one more content-addressed file.

The index of D documents is a safetensors file with `ids` [D, 16, uint8], `line` [D, int64], `file` [D, int32] in the
order of the corpus and `order` [D, int64], the places sorted by id: 36 bytes a row. A row is found by bisection, and
the shards with their tokens are not touched.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store import tensorfile
from regraft.store.reports import RowUse, Touch, Use

if TYPE_CHECKING:
    from regraft.store.line import Line

_COLUMNS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "ids": ("uint8", "u1", (16,)),
    "file": ("int32", "<i4", ()),
    "line": ("int64", "<i8", ()),
}
_HEX = 32


def check_manifest(manifest: Mapping[str, Any], shards: Sequence[str]) -> None:
    """Refuse a corpus manifest that does not describe the shards with these digests, in this order."""
    try:
        named = [str(shard["digest"]) for shard in manifest["shards"]]
        counted = sum(int(shard["documents"]) for shard in manifest["shards"])
        documents, _ = int(manifest["documents"]), [str(file["path"]) for file in manifest["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RegraftError(f"not the manifest of a corpus: {error!r}") from None
    if named != list(shards):
        raise RegraftError(f"the manifest of the corpus names {len(named)} shards that are not the {len(shards)} given")
    if documents != counted:
        raise RegraftError(f"the manifest of the corpus counts {documents} documents, its shards {counted}")


def build_index(manifest: Mapping[str, Any], shards: Sequence[Path]) -> list[bytes | memoryview]:
    """The content of the index file.

    Raises:
        RegraftError: a shard lacks a column, or a column has another dtype, length or range than the manifest says.
    """
    columns = [_read_shard(path, int(s["documents"])) for path, s in zip(shards, manifest["shards"], strict=True)]
    whole = {
        name: np.concatenate([np.empty((0, *tail), code), *(shard[name] for shard in columns)], dtype=code)
        for name, (_, code, tail) in _COLUMNS.items()
    }
    file = whole["file"]
    if len(file) and not 0 <= file.min() <= file.max() < len(manifest["files"]):
        raise RegraftError(f"a row of the corpus names file {file.max()}, but it has {len(manifest['files'])} files")
    words = whole["ids"].view(">u8").astype(np.uint64)
    whole["order"] = np.lexsort((words[:, 1], words[:, 0])).astype("<i8")
    aligned = {name: whole[name] for name in ("ids", "line", "order", "file")}
    head = tensorfile.header({name: (values.dtype.name, values.shape) for name, values in aligned.items()})
    return [head, *(np.ascontiguousarray(values).reshape(-1).view("u1").data for values in aligned.values())]


def _read_shard(path: Path, documents: int) -> dict[str, npt.NDArray[Any]]:
    try:
        with safe_open(path, framework="numpy") as shard:
            columns: dict[str, npt.NDArray[Any]] = {name: shard.get_tensor(name) for name in _COLUMNS}
    except SafetensorError as error:
        raise RegraftError(f"not a shard of a corpus: {error}", where=path) from None
    for name, (dtype, _, tail) in _COLUMNS.items():
        if columns[name].shape != (documents, *tail) or columns[name].dtype != dtype:
            found = f"{columns[name].dtype} {list(columns[name].shape)}"
            raise RegraftError(f"column {name} is {found}, not {dtype} {[documents, *tail]}", where=path)
    return columns


class Found(NamedTuple):
    """A row of a corpus: its place there, its id, its file's name and 1-based line."""

    place: int
    row: str
    file: str
    line: int


class RowIndex:
    """The rows of one corpus, by place and by id, read through a memory map of a verified file."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        data = np.memmap(path, np.uint8, mode="r")
        try:
            entries = tensorfile.parse(data.data)
            ids, file, line, order = (entries[name] for name in ("ids", "file", "line", "order"))
        except (ValueError, KeyError) as error:
            raise DamagedStore(f"not an index of rows: {error}", where=path) from None
        self.files = [str(file["path"]) for file in manifest["files"]]
        self.documents = ids.shape[0]
        self._ids = data[ids.start : ids.stop].reshape(-1, 16)
        self._file, self._line = data[file.start : file.stop].view("<i4"), data[line.start : line.stop].view("<i8")
        self._order = data[order.start : order.stop].view("<i8")

    def at(self, places: npt.NDArray[np.int64]) -> Iterator[Found]:
        """The rows at these places, in this order."""
        for start in range(0, len(places), 1 << 16):
            chunk = places[start : start + (1 << 16)]
            text = self._ids[chunk].tobytes().hex()
            rows = (text[i : i + _HEX] for i in range(0, len(text), _HEX))
            files = (self.files[i] for i in self._file[chunk].tolist())
            yield from map(Found, chunk.tolist(), rows, files, self._line[chunk].tolist())

    def find(self, prefix: str) -> Iterator[Found]:
        """The rows whose id begins with these hexadecimal digits."""
        low, high = (bytes.fromhex(prefix.ljust(_HEX, digit)) for digit in "0f")
        order = range(self.documents)
        start = bisect_left(order, low, key=self._id_of_rank)
        stop = bisect_right(order, high, key=self._id_of_rank)
        return self.at(np.sort(self._order[start:stop]))

    def _id_of_rank(self, rank: int) -> bytes:
        return bytes(self._ids[self._order[rank]])


def rows_of(line: Line, lineage: Sequence[tuple[str, Sequence[Use]]]) -> Iterator[RowUse]:
    """The rows of these versions' uses, each row once for each role, with the first version that has it."""
    seen: dict[tuple[str, str], npt.NDArray[np.bool_]] = {}
    for version, uses in lineage:
        for use in uses:
            index = _open_index(line, use.corpus)
            touched = _mask(line, use, index.documents)
            before = seen.setdefault((use.corpus, use.role), np.zeros(index.documents, np.bool_))
            for found in index.at(np.flatnonzero(touched & ~before)):
                yield RowUse(found.row, found.file, found.line, use.role, version)
            before |= touched


def touches(line: Line, row: str, uses: Mapping[str, Sequence[Use]]) -> set[Touch]:
    """What the rows whose id begins with `row` touched directly; `uses` are those of each corpus."""
    prefix = row.lower()
    if not re.fullmatch(rf"[0-9a-f]{{4,{_HEX}}}", prefix):
        raise RegraftError(f"{row!r} is not a row's id", do=f"Give 4 to {_HEX} hexadecimal digits")
    return {
        Touch(use.version, found.row, found.file, found.line, use.role, inherited=False)
        for corpus, users in uses.items()
        if users and (rows := list(_open_index(line, corpus).find(prefix)))
        for use in users
        for found in rows
        if _is_touched(line, use, found.place)
    }


def _open_index(line: Line, corpus: str) -> RowIndex:
    return RowIndex(line.file(line.row_index(corpus)), line.json(corpus))


def _mask(line: Line, use: Use, documents: int) -> npt.NDArray[np.bool_]:
    if use.touched is None:
        return np.ones(documents, np.bool_)
    return np.unpackbits(np.frombuffer(line.values(use.touched), np.uint8), count=documents).astype(np.bool_)


def _is_touched(line: Line, use: Use, place: int) -> bool:
    return use.touched is None or bool(line.values(use.touched)[place // 8] >> (7 - place % 8) & 1)
