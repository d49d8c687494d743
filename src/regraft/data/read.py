"""Documents from files, folders and datasets: a stream, checked row by row, never larger in memory than one batch.

Rows hold `text`, or `messages` (with `tools`), or `prompt` and `completion`; and, if they like, `weight`, `source`,
`tags` and `id`. A plain text file is one document. Every complaint is one line that names the file and the line.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from regraft.core.errors import RegraftError, nearest
from regraft.core.names import in_utf8, regular_file, shown, utf8_name
from regraft.data.document import (
    FIELDS,
    NEEDED,
    USED_COLUMNS,
    BadRow,
    Document,
    document_of,
    first_line,
    kind_of,
    listed,
    parse_json,
    parse_row,
    parse_utf8,
    unread_fields,
)

MAX_LINE_BYTES = 32 << 20
LISTED = 20  # skipped rows that are listed; all of them are counted

_BATCH_ROWS = 1000
_BATCH_CHARACTERS = 16 << 20
_WHOLE_FILE_LINES = 8  # a file that must be held whole may be as large as this many longest lines

_ROW_SUFFIXES = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".parquet": "parquet"}
_TEXT_NAMES = """
    txt text md markdown rst tex org adoc html htm xml yaml yml toml css sql sh bash py pyi c h cc cpp hpp cu cuh
    java js jsx ts tsx go rs rb php swift kt scala r jl lua pl hs ml cs
"""
_TEXT_SUFFIXES = frozenset(f".{name}" for name in _TEXT_NAMES.split())
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its switches
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")


@dataclass(slots=True)
class InputFile:
    """A file, dataset folder or hub dataset: `path` as the user gave it, and how many usable rows it had.

    `rows` is known once the reader has been read.
    """

    path: str
    source: str
    format: str
    in_folder: bool = False
    rows: int = 0
    revision: str | None = None
    unused_columns: list[str] = field(default_factory=list)
    _stat: tuple[tuple[int, int], ...] = ()
    _sha256: str | None = None

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file's bytes; of all files of a dataset folder; of a hub dataset's name and revision."""
        if self._sha256 is None:
            self._stat = self._look()
            self._sha256 = self._hash()
        return self._sha256

    @property
    def changed(self) -> bool:
        """Whether the file is not the one that was hashed."""
        return self._sha256 is not None and self._stat != self._look()

    def _parts(self) -> list[Path]:
        if self.format == "hub":
            return []
        path = Path(self.path)
        return sorted(p for p in path.rglob("*") if p.is_file()) if self.format == "dataset" else [path]

    def _look(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((s.st_size, s.st_mtime_ns) for s in (p.stat() for p in self._parts()))
        except OSError:
            return ()

    def _hash(self) -> str:
        if self.format == "hub":
            return hashlib.sha256(f"hub\0{self.path}\0{self.revision}".encode()).hexdigest()
        digests = []
        for part in self._parts():
            with _opened(part) as handle:
                digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
        return digests[0] if self.format != "dataset" else hashlib.sha256(" ".join(digests).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was passed over and why; `line` 0 is a file of a folder that is not read at all."""

    path: str
    line: int
    why: str


@dataclass
class Reader:
    """Checked documents in batches; what it found on the way is in its attributes, complete after one iteration.

    `skip_counts` counts skipped rows (and files of a folder) by reason and `skipped` lists the first of them;
    `ignored_keys` counts fields that nothing reads. Each iteration reads everything anew.
    """

    files: list[InputFile]
    skip_bad: bool = False
    max_line_bytes: int = MAX_LINE_BYTES
    unread: list[Skipped] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    skip_counts: Counter[str] = field(default_factory=Counter)
    ignored_keys: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[list[Document]]:
        self.skipped, self.skip_counts, self.ignored_keys = [], Counter(), Counter()
        for entry in self.files:
            entry.rows = 0
        batch: list[Document] = []
        size = 0
        for index in range(len(self.files)):
            for document in self._documents(index):
                batch.append(document)
                size += document.content.size
                if len(batch) >= _BATCH_ROWS or size >= _BATCH_CHARACTERS:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch
        for skip in self.unread:
            self._skip(skip)
        self.require_documents()

    def reject(self, document: Document, problem: BadRow) -> None:
        """Count a document that was read but cannot be used after all; raises unless bad rows are skipped."""
        entry = self.files[document.file]
        entry.rows -= 1
        self._bad(entry, document.line, problem)

    def require_documents(self) -> None:
        """Raise if every row was skipped."""
        if any(entry.rows for entry in self.files):
            return
        where = self.files[0].path if len(self.files) == 1 else f"{self.files[0].path} and {len(self.files) - 1} more"
        raise RegraftError(f"no documents{self._skipped_note()}", where=where)

    def _documents(self, index: int) -> Iterator[Document]:
        entry = self.files[index]
        form: tuple[str, int] | None = None
        skipped_before = self.skip_counts.total()
        for line, raw in _READERS[entry.format](entry, self.max_line_bytes):
            try:
                row = parse_row(raw)
                kind = kind_of(row, form)
                document = document_of(row, kind, entry.source, index, line)
            except BadRow as problem:
                self._bad(entry, line, problem)
                continue
            form = form or (kind, line)
            self.ignored_keys.update(unread_fields(row, kind))
            entry.rows += 1
            yield document
        self.ignored_keys.update(dict.fromkeys(entry.unused_columns, entry.rows))
        if entry.changed:
            raise RegraftError("changed while it was being read", where=entry.path, do="Run again")
        if not entry.rows and not entry.in_folder:
            count = self.skip_counts.total() - skipped_before
            raise RegraftError("no documents" + (f": all {count} rows were skipped" * bool(count)), where=entry.path)

    def _bad(self, entry: InputFile, line: int, problem: BadRow) -> None:
        empty = entry.in_folder and entry.format == "text" and problem.reason in ("empty file", "empty text")
        if not self.skip_bad and not empty:
            raise RegraftError(str(problem), where=f"{entry.path}:{line}") from None
        self._skip(Skipped(entry.path, line, problem.reason))

    def _skip(self, skip: Skipped) -> None:
        self.skip_counts[skip.why] += 1
        if len(self.skipped) < LISTED:
            self.skipped.append(skip)

    def _skipped_note(self) -> str:
        if not self.skip_counts:
            return ""
        return ": skipped " + ", ".join(f"{count} × {why}" for why, count in self.skip_counts.most_common(3))


def documents(
    names: Sequence[str], *, skip_bad: bool = False, source: str | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Reader:
    """A reader of the documents in `names`: files, folders, datasets saved to disk, names of datasets on the hub.

    `.jsonl` holds one object a line, `.json` a list of objects or one object a line, `.parquet` a table; any other file
    is one UTF-8 document. Folders are walked, sorted, for text, JSONL and Parquet. A hub name is
    `owner/name`, with `:config` and `@revision` if needed, and its split `train`, or its only one.

    Args:
        names: what to read, in this order.
        skip_bad: pass over bad rows and count them, instead of stopping at the first.
        source: the source of rows that name none; else the stem of their file or the name of their folder.
        max_line_bytes: the longest JSONL line; files held whole may have 8 times this.

    Raises RegraftError for what is not there; iterating raises it for what is there but bad.
    """
    if not names:
        raise RegraftError("no data was named", do="Give a file, a folder or a dataset")
    found: list[InputFile] = []
    unread: list[Skipped] = []
    for name in names:
        entries, passed = _find(str(name), skip_bad)
        found += entries
        unread += passed
    files: list[InputFile] = []
    seen: set[str] = set()
    for entry in found:
        real = entry.path if entry.format == "hub" else os.path.realpath(entry.path)
        if real in seen and not entry.in_folder:
            raise RegraftError("is named twice", where=entry.path)
        if real in seen:
            unread.append(Skipped(entry.path, 0, "the same file again"))
            continue
        seen.add(real)
        entry.source = source or entry.source
        files.append(entry)
    return Reader(files, skip_bad, max_line_bytes, unread)


def _find(name: str, skip_bad: bool) -> tuple[list[InputFile], list[Skipped]]:
    utf8_name(name)
    regular_file(name)
    path = Path(name)
    if path.is_dir():
        if any((path / mark).is_file() for mark in ("dataset_dict.json", "dataset_info.json")):
            return [InputFile(name, shown(path.resolve().name), "dataset")], []
        return _walk(name, skip_bad)
    if path.exists():
        return [InputFile(name, path.stem, _ROW_SUFFIXES.get(path.suffix.lower(), "text"))], []
    if (match := _HUB_NAME.fullmatch(name)) and not path.parent.exists() and not _known_suffix(path):
        revision = _hub_revision(name, match["name"], match["revision"])
        return [InputFile(name, match["name"], "hub", revision=revision)], []
    raise RegraftError(f"no such file, folder or dataset{_hint(path)}", where=name)


def _walk(folder: str, skip_bad: bool) -> tuple[list[InputFile], list[Skipped]]:
    files: list[InputFile] = []
    unread: list[Skipped] = []
    source = shown(Path(folder).resolve().name)

    def unreadable(error: OSError) -> None:
        where = error.filename or folder
        if not skip_bad or where == folder:
            raise RegraftError(f"the folder cannot be read: {error.strerror}", where=shown(where)) from None
        unread.append(Skipped(shown(where), 0, "a folder that cannot be read"))

    for where, inner, names in os.walk(folder, onerror=unreadable):
        unread += [
            Skipped(shown(Path(where, name)), 0, "hidden folder") for name in sorted(inner) if name.startswith(".")
        ]
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            suffix = path.suffix.lower()
            if not path.is_file():
                unread.append(Skipped(shown(path), 0, "not a file"))
            elif name.startswith("."):
                unread.append(Skipped(shown(path), 0, "hidden file"))
            elif suffix in _TEXT_SUFFIXES or suffix in (".jsonl", ".ndjson", ".parquet"):
                if skip_bad and not in_utf8(path):
                    unread.append(Skipped(shown(path), 0, "a name that is not UTF-8"))
                    continue
                utf8_name(path)
                files.append(InputFile(str(path), source, _ROW_SUFFIXES.get(suffix, "text"), in_folder=True))
            else:
                unread.append(Skipped(shown(path), 0, f"{shown(suffix) or 'no suffix'}: not a text file"))
    if not files:
        kinds = Counter(skip.why.partition(":")[0] for skip in unread)
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
        raise RegraftError(f"no text, JSONL or Parquet file in the folder; it holds {held}", where=folder)
    return files, unread


def _known_suffix(path: Path) -> bool:
    return path.suffix.lower() in _TEXT_SUFFIXES or path.suffix.lower() in _ROW_SUFFIXES


def _hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    return nearest(path.name, os.listdir(path.parent))


def _hub_revision(name: str, repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, errors

    offline = RegraftError("no such path, and the hub cannot be asked: offline", where=name, do="Give a local path")
    if {os.environ.get(switch, "").upper() for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")} & _TRUE:
        raise offline
    try:
        found = HfApi().dataset_info(repository, revision=revision, timeout=20)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise RegraftError("neither a path here nor a dataset on the hub", where=name) from None
    except errors.HfHubHTTPError as error:
        raise RegraftError(f"the hub refused: {first_line(error)}", where=name) from None
    except Exception:  # no answer: every version of the client has another HTTP library's errors
        raise offline from None
    return str(found.sha)


def _read_lines(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    number = 0
    with _opened(entry.path) as handle:
        while line := handle.readline(limit + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) > limit and not line.endswith(b"\n"):
                while (more := handle.readline(1 << 20)) and not more.endswith(b"\n"):
                    pass
                yield number, BadRow("line too long", f": over {_mebibytes(limit)}")
            elif line.strip():
                yield number, line.rstrip(b"\r\n")
    if not number:
        raise RegraftError("empty file", where=entry.path)


def read_json(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    """Line or item numbers with what is there: a line's bytes, an item of the list, or the BadRow that a line is."""
    with _opened(entry.path) as handle:
        start = handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start != b"[":
        yield from _read_lines(entry, limit)
        return
    try:
        rows = parse_json(_whole(entry, limit))
    except BadRow as problem:
        raise RegraftError(str(problem), where=entry.path) from None
    yield from enumerate(rows, start=1)


def _read_text(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    try:
        text = parse_utf8(_whole(entry, limit))
    except BadRow as problem:
        yield 1, problem
        return
    # Line ends are the file's, not the author's: as Python's own text files read them.
    yield 1, {"text": text.replace("\r\n", "\n").replace("\r", "\n")}


def _read_parquet(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    pyarrow = _optional("pyarrow", entry)
    parquet = _optional("pyarrow.parquet", entry)
    with _opened(entry.path) as handle:
        try:
            table = parquet.ParquetFile(handle)
            columns = _usable(table.schema_arrow.names, entry)
            batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        except (pyarrow.ArrowException, OSError) as error:
            raise RegraftError(f"unreadable Parquet: {first_line(error)}", where=entry.path) from None


def _read_dataset(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    datasets = _optional("datasets", entry)
    try:
        found = datasets.load_from_disk(entry.path)
    except Exception as error:
        raise RegraftError(f"unreadable dataset: {first_line(error)}", where=entry.path) from None
    yield from _dataset_rows(found, entry)


def _read_hub(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    datasets = _optional("datasets", entry)
    match = _HUB_NAME.fullmatch(entry.path)
    assert match
    try:
        found = datasets.load_dataset(match["name"], match["config"], revision=entry.revision, streaming=True)
    except Exception as error:
        raise RegraftError(f"the hub dataset cannot be read: {first_line(error)}", where=entry.path) from None
    yield from _dataset_rows(found, entry)


def _dataset_rows(found: Any, entry: InputFile) -> Iterator[tuple[int, object]]:
    if isinstance(found, dict):
        splits = list(found)
        if "train" not in found and len(splits) != 1:
            raise RegraftError(f"which split? It has {', '.join(splits)} and no `train`", where=entry.path)
        found = found["train" if "train" in found else splits[0]]
    columns = _usable(found.column_names or list(next(iter(found), {})), entry)
    tables = found.select_columns(columns).with_format("arrow").iter(batch_size=_BATCH_ROWS)
    try:
        yield from enumerate((row for table in tables for row in table.to_pylist()), start=1)
    except Exception as error:
        raise RegraftError(f"unreadable dataset: {first_line(error)}", where=entry.path) from None


_READERS: dict[str, Callable[[InputFile, int], Iterator[tuple[int, object]]]] = {
    "lines": _read_lines,
    "json": read_json,
    "text": _read_text,
    "parquet": _read_parquet,
    "dataset": _read_dataset,
    "hub": _read_hub,
}


def _whole(entry: InputFile, limit: int) -> bytes:
    limit *= _WHOLE_FILE_LINES
    with _opened(entry.path) as handle:
        raw = handle.read(limit + 1)
    if not raw:
        raise BadRow("empty file")
    if len(raw) > limit:
        raise BadRow("file too large to be held whole", f": over {_mebibytes(limit)}; split it or write JSONL")
    return raw


def _usable(columns: Sequence[str], entry: InputFile) -> list[str]:
    if not any(set(fields) <= set(columns) for fields in FIELDS.values()):
        raise RegraftError(f"no usable column: {NEEDED}; it has {listed(columns)}", where=entry.path)
    entry.unused_columns = [name for name in columns if name not in USED_COLUMNS]
    return [name for name in columns if name in USED_COLUMNS]


def _optional(module: str, entry: InputFile) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise RegraftError(f"needs {name}", where=entry.path, do="pip install 'regraft[data]'") from None


def _opened(path: str | Path) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise RegraftError(f"cannot be read: {error.strerror}", where=path) from None


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


__all__ = ["MAX_LINE_BYTES", "BadRow", "InputFile", "Reader", "Skipped", "documents", "read_json"]
