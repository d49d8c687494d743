"""Documents from files, folders and datasets: a stream, checked row by row, never larger in memory than one batch.

Rows hold `text`, or `messages` (with `tools`), or `prompt` and `completion`; and, if they like, `weight`, `source`,
`tags` and `id`. A plain text file is one document. Every complaint is one line that names the file and the line.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from regraft.core.errors import RegraftError, nearest

Row: TypeAlias = Mapping[str, Any]

MAX_LINE_BYTES = 32 << 20
LISTED = 20  # skipped rows that are listed; all of them are counted

_BATCH_ROWS = 1000
_BATCH_CHARACTERS = 16 << 20
_LARGEST_WEIGHT = 3e38  # of float32
_WHOLE_FILE_LINES = 8  # a file that must be held whole may be as large as this many longest lines

_FIELDS = {"text": ("text",), "messages": ("messages",), "completion": ("prompt", "completion")}
_EXTRA_FIELDS = {"text": frozenset[str](), "messages": frozenset({"tools"}), "completion": frozenset[str]()}
_COMMON_FIELDS = frozenset({"weight", "source", "tags", "id"})
_USED_COLUMNS = frozenset({"text", "messages", "tools", "prompt", "completion"}) | _COMMON_FIELDS
_NEEDED = "rows need `text`, or `messages`, or `prompt` and `completion`"

_ROW_SUFFIXES = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".parquet": "parquet"}
_TEXT_NAMES = """
    txt text md markdown rst tex org adoc html htm xml yaml yml toml css sql sh bash py pyi c h cc cpp hpp cu cuh
    java js jsx ts tsx go rs rb php swift kt scala r jl lua pl hs ml cs
"""
_TEXT_SUFFIXES = frozenset(f".{name}" for name in _TEXT_NAMES.split())
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class Text:
    """Running text: every token is learned."""

    kind: ClassVar[str] = "text"
    text: str

    @property
    def size(self) -> int:
        return len(self.text)

    def fields(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in the Hugging Face form; the assistant's turns are learned."""

    kind: ClassVar[str] = "messages"
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None

    @property
    def size(self) -> int:
        return sum(len(m.get("content") or "") for m in self.messages)

    def fields(self) -> dict[str, Any]:
        return {"messages": self.messages} | ({"tools": self.tools} if self.tools else {})


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and what should follow it; the completion is learned."""

    kind: ClassVar[str] = "completion"
    prompt: str
    completion: str

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.completion)

    def fields(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "completion": self.completion}


Content: TypeAlias = Text | Chat | Completion


@dataclass(frozen=True, slots=True)
class Document:
    """One checked row.

    `id` is the first 16 bytes of the SHA-256 of the content's canonical JSON (sorted keys, no spaces, UTF-8): two rows
    with the same content have the same id, whatever their weight, source or place. `name` is the row's own `id`
    field, `file` the index in `Reader.files`, `line` the line (JSONL) or row (tables, lists), from 1.
    """

    id: bytes
    content: Content
    weight: float
    source: str
    tags: tuple[str, ...]
    name: str | None
    file: int
    line: int


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


class BadRow(Exception):
    """A row that cannot be used: a `reason` to count by, and the `detail` of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + detail)
        self.reason = reason


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
        for skip in self.unread:
            self._skip(skip)
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
                row = _row(raw)
                kind = _kind(row, form)
                document = _document(row, kind, entry.source, index, line)
            except BadRow as problem:
                self._bad(entry, line, problem)
                continue
            form = form or (kind, line)
            unread = row.keys() - _COMMON_FIELDS - _EXTRA_FIELDS[kind] - set(_FIELDS[kind])
            self.ignored_keys.update(unread)
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
        entries, passed = _find(str(name))
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


def _find(name: str) -> tuple[list[InputFile], list[Skipped]]:
    path = Path(name)
    if path.is_dir():
        if any((path / mark).is_file() for mark in ("dataset_dict.json", "dataset_info.json")):
            return [InputFile(name, path.resolve().name, "dataset")], []
        return _walk(name)
    if path.exists() and not path.is_file():
        raise RegraftError("is no regular file, so it cannot be read twice", where=name, do="Save it to a file first")
    if path.exists():
        return [InputFile(name, path.stem, _ROW_SUFFIXES.get(path.suffix.lower(), "text"))], []
    if (match := _HUB_NAME.fullmatch(name)) and not path.parent.exists() and not _known_suffix(path):
        return [
            InputFile(name, match["name"], "hub", revision=_hub_revision(name, match["name"], match["revision"]))
        ], []
    raise RegraftError(f"no such file, folder or dataset{_hint(path)}", where=name)


def _walk(folder: str) -> tuple[list[InputFile], list[Skipped]]:
    files, unread = [], []
    source = Path(folder).resolve().name
    for where, inner, names in os.walk(folder):
        unread += [
            Skipped(str(Path(where, name)), 0, "hidden folder") for name in sorted(inner) if name.startswith(".")
        ]
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            suffix = path.suffix.lower()
            if not path.is_file():
                unread.append(Skipped(str(path), 0, "not a file"))
            elif name.startswith("."):
                unread.append(Skipped(str(path), 0, "hidden file"))
            elif suffix in _TEXT_SUFFIXES or suffix in (".jsonl", ".ndjson", ".parquet"):
                files.append(InputFile(str(path), source, _ROW_SUFFIXES.get(suffix, "text"), in_folder=True))
            else:
                unread.append(Skipped(str(path), 0, f"{suffix or 'no suffix'}: not a text file"))
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
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    offline = RegraftError("no such path, and the hub cannot be asked: offline", where=name, do="Give a local path")
    if {os.environ.get(switch, "").upper() for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")} & {
        "1",
        "ON",
        "YES",
        "TRUE",
    }:
        raise offline
    try:
        found = HfApi().dataset_info(repository, revision=revision, timeout=20)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise RegraftError("neither a path here nor a dataset on the hub", where=name) from None
    except HfHubHTTPError as error:
        raise RegraftError(f"the hub refused: {error}", where=name) from None
    except (OfflineModeIsEnabled, OSError):
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


def _read_json(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    with _opened(entry.path) as handle:
        start = handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start != b"[":
        yield from _read_lines(entry, limit)
        return
    try:
        rows = _loads(_whole(entry, limit))
    except BadRow as problem:
        raise RegraftError(str(problem), where=entry.path) from None
    yield from enumerate(rows, start=1)


def _read_text(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    try:
        text = _utf8(_whole(entry, limit))
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
            raise RegraftError(f"unreadable Parquet: {_first_line(error)}", where=entry.path) from None


def _read_dataset(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    datasets = _optional("datasets", entry)
    try:
        found = datasets.load_from_disk(entry.path)
    except Exception as error:
        raise RegraftError(f"unreadable dataset: {_first_line(error)}", where=entry.path) from None
    yield from _dataset_rows(found, entry)


def _read_hub(entry: InputFile, limit: int) -> Iterator[tuple[int, object]]:
    datasets = _optional("datasets", entry)
    match = _HUB_NAME.fullmatch(entry.path)
    assert match
    try:
        found = datasets.load_dataset(match["name"], match["config"], revision=entry.revision, streaming=True)
    except Exception as error:
        raise RegraftError(f"the hub dataset cannot be read: {_first_line(error)}", where=entry.path) from None
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
    except (OSError, ValueError) as error:
        raise RegraftError(f"unreadable dataset: {_first_line(error)}", where=entry.path) from None


_READERS: dict[str, Callable[[InputFile, int], Iterator[tuple[int, object]]]] = {
    "lines": _read_lines,
    "json": _read_json,
    "text": _read_text,
    "parquet": _read_parquet,
    "dataset": _read_dataset,
    "hub": _read_hub,
}


def _row(raw: object) -> Row:
    if isinstance(raw, BadRow):
        raise raw
    row = _loads(raw) if isinstance(raw, bytes) else raw
    if not isinstance(row, dict):
        raise BadRow("not an object", f": {_got(row)}; {_NEEDED}")
    return row


def _kind(row: Row, form: tuple[str, int] | None) -> str:
    kinds = [kind for kind, fields in _FIELDS.items() if all(row.get(name) is not None for name in fields)]
    if len(kinds) > 1:
        raise BadRow("more than one kind of content", f": {_list(kinds)}; keep one")
    if kinds and form and kinds[0] != form[0]:
        now, first = (_list(_FIELDS[kind]) for kind in (kinds[0], form[0]))
        raise BadRow("mixed schemas", f": has {now} but line {form[1]} has {first}; a file holds one kind of row")
    if kinds:
        return kinds[0]
    for kind in [form[0]] if form else _FIELDS:
        missing = [name for name in _FIELDS[kind] if row.get(name) is None]
        if form or len(missing) < len(_FIELDS[kind]) or missing[0] in row:
            null = missing[0] in row
            raise BadRow(f"field `{missing[0]}` is {'null' if null else 'missing'}", f"; the row has {_list(row)}")
    raise BadRow("no usable field", f": {_NEEDED}; the row has {_list(row)}")


def _document(row: Row, kind: str, source: str, file: int, line: int) -> Document:
    content = _CONTENT[kind](row)
    given = {name: row[name] for name in _COMMON_FIELDS if row.get(name) is not None}
    name = given.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise _ill_typed("id", name, "a string or an integer")
    return Document(
        _row_id(content),
        content,
        _weight(given.get("weight", 1.0)),
        _string(given, "source") if "source" in given else source,
        _tags(given.get("tags", [])),
        None if name is None else str(name),
        file,
        line,
    )


def _text(row: Row) -> Text:
    text = _string(row, "text")
    if not text.strip():
        raise BadRow("empty text")
    return Text(text)


def _completion(row: Row) -> Completion:
    pair = Completion(_string(row, "prompt"), _string(row, "completion"))
    if not pair.completion.strip():
        raise BadRow("empty completion")
    return pair


def _chat(row: Row) -> Chat:
    messages, tools = row["messages"], row.get("tools")
    if not isinstance(messages, list):
        raise _ill_typed("messages", messages, "a list of objects")
    if not messages:
        raise BadRow("empty messages")
    if tools is not None and not isinstance(tools, list):
        raise _ill_typed("tools", tools, "a list")
    # Tables fill the fields that a message does not have with nulls.
    turns = [_message(turn, f"messages[{at}]") for at, turn in enumerate(messages)]
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRow("no assistant turn", ": nothing to learn from")
    return Chat(turns, tools or None)


def _message(turn: object, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise _ill_typed(where, turn, "an object")
    kept = {name: value for name, value in turn.items() if value is not None}
    if not isinstance(kept.get("role"), str):
        raise _ill_typed(f"{where}.role", turn.get("role"), "a string")
    if not isinstance(kept.get("content", "" if kept.get("tool_calls") else None), str):
        raise _ill_typed(f"{where}.content", turn.get("content"), "a string")
    return kept


_CONTENT: dict[str, Callable[[Row], Content]] = {"text": _text, "messages": _chat, "completion": _completion}


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _ill_typed("weight", value, "a number")
    if not 0 <= value <= _LARGEST_WEIGHT:
        raise BadRow("field `weight` must be finite and at least 0", f", not {str(value)[:24]}")
    return float(value)


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise _ill_typed("tags", value, "a list of strings")
    return tuple(dict.fromkeys(value))


def _string(row: Row, name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise _ill_typed(name, value, "a string")
    return value


def _row_id(content: Content) -> bytes:
    raw = json.dumps(content.fields(), sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(raw.encode()).digest()[:16]


def _ill_typed(name: str, value: object, needed: str) -> BadRow:
    return BadRow(f"field `{name}` must be {needed}", f", not {_got(value)}")


def _got(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    if value is None:
        return "missing or null"
    if isinstance(value, list) and (odd := next((x for x in value if not isinstance(x, str)), None)) is not None:
        return f"a list with {_got(odd)}"
    return names.get(type(value), type(value).__name__)


def _loads(raw: bytes) -> Any:
    text = _utf8(raw)
    try:
        value = json.loads(text)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise BadRow("not JSON", f": {error.msg} at {place}") from None
    except UnicodeEncodeError:
        raise BadRow("half a surrogate pair", ": an escape such as \\ud83d without its other half") from None
    except (RecursionError, ValueError) as error:
        raise BadRow("not JSON", f": {_first_line(error)}") from None
    return value


def _utf8(raw: bytes) -> str:
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8", f": byte {error.start} is 0x{raw[error.start]:02x}") from None


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
    if not any(set(fields) <= set(columns) for fields in _FIELDS.values()):
        raise RegraftError(f"no usable column: {_NEEDED}; it has {_list(columns)}", where=entry.path)
    entry.unused_columns = [name for name in columns if name not in _USED_COLUMNS]
    return [name for name in columns if name in _USED_COLUMNS]


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


def _list(names: Iterable[str]) -> str:
    shown = [f"`{name}`" for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "") or "no fields"


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
