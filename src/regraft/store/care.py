"""What the line does for its own health: verify, collect garbage, count bytes."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store.files import is_aside, one_clear_error
from regraft.store.ledger import CHECKSUM, LEDGER
from regraft.store.line import BLOBS, IDENTITY, LOCK, RUNS, read_identity
from regraft.store.reports import Damage, DiskUse, GcReport, VerifyReport

if TYPE_CHECKING:
    from regraft.store.line import Line, Progress
    from regraft.store.versions import Version

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_LARGEST_DOCUMENT = 64 << 20


class _Node(NamedTuple):
    is_version: bool
    mentions: frozenset[str]


_LEAF = _Node(False, frozenset())


class _Graph:
    """Which stored file mentions which. Any JSON document that contains a digest mentions it, whatever its schema, so
    that what a part of regraft not yet written hides in a document is kept too."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.present = line.blobs.present()
        self.indexes = {corpus: line.row_index(corpus) for corpus in line.corpora()}
        self._nodes: dict[str, _Node] = {}

    def reach(self, roots: Iterable[str]) -> set[str]:
        """The files that `roots` need, themselves included. A version needs its own files, not those of a version that
        it only mentions: its parents, a teacher."""
        found: set[str] = set()
        todo = [root for root in roots if root in self.present]
        while todo:
            digest = todo.pop()
            if digest not in found:
                found.add(digest)
                todo += [d for d in self._node(digest).mentions if d not in found and not self._node(d).is_version]
        return found

    def _node(self, digest: str) -> _Node:
        if digest not in self._nodes:
            self._nodes[digest] = self._read(digest)
        return self._nodes[digest]

    def _read(self, digest: str) -> _Node:
        if not _may_be_document(self.present[digest]):
            return _LEAF
        data = self.line.bytes(digest)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return _LEAF
        is_version = isinstance(document, dict) and document.get("kind") == "version"
        mentions = {*mentioned(data), *([self.indexes[digest]] if digest in self.indexes else ())}
        return _Node(is_version, frozenset(mentions & self.present.keys()))


def mentioned(data: bytes) -> Iterator[str]:
    return (match.decode() for match in _DIGEST.findall(data))


def _may_be_document(path: Path) -> bool:
    """A tensor's file never begins like JSON: its first byte, low byte of the header's length, is a multiple of 8."""
    with open(path, "rb") as file:
        return file.read(1) in (b"{", b"[") and path.stat().st_size <= _LARGEST_DOCUMENT


def _roots(line: Line, versions: Sequence[Version]) -> set[str]:
    """The versions, what was noted of them, and what unfinished runs mention."""
    roots = {version.id for version in versions}.union(*(line.notes(version).values() for version in versions))
    finished = line.finished_runs()
    for run in line.runs():
        if run not in finished:
            for path in line.run_dir(run).rglob("*.json"):
                roots.update(mentioned(path.read_bytes()))
    return roots


def _named(line: Line, version: Version) -> Iterator[str]:
    """The files that a version names: all of these must be there.

    Raises:
        DamagedStore: its manifest, or that of a corpus, is missing or damaged.
        RegraftError: its manifest cannot be accepted.
    """
    yield version.id
    yield from line.notes(version).values()
    content = line.content(version.id)
    yield from content.blobs()
    for use in content.corpora:
        yield line.row_index(use.corpus)
        yield from (shard["digest"] for shard in line.corpus(use.corpus)["shards"])


def _strangers(line: Line) -> list[Path]:
    """What is no part of a line: debris of killed writers, and files that someone else put there."""
    own = {IDENTITY, LEDGER, CHECKSUM, BLOBS, RUNS, LOCK}
    strangers = [path for path in line.path.iterdir() if path.name not in own]
    strangers += [path for path in line.blobs.walk() if not line.blobs.is_blob(path)]
    return strangers + [path for path in (line.path / RUNS).iterdir() if is_aside(path)]


def verify(line: Line, deep: bool, progress: Progress | None) -> VerifyReport:
    """See `Line.verify`."""
    damaged: dict[Path, Damage] = {}

    def note(error: RegraftError, versions: Iterable[str] = ()) -> None:
        path = Path(str(error.where))
        damaged.setdefault(path, Damage(path, error.what, tuple(versions)))

    needed_by = defaultdict[str, list[str]](list)
    present = line.blobs.present()
    try:
        read_identity(line.path)
    except DamagedStore as error:
        note(error)
    try:
        line.ledger.verify()
        versions = line.versions()
    except DamagedStore as error:
        note(error)
        versions = []
    for version in versions:
        try:
            for digest in _named(line, version):
                needed_by[digest].append(version.id)
        except RegraftError as error:
            note(error, [version.id])
    for digest in sorted(needed_by.keys() - present.keys()):
        note(DamagedStore("the stored file is missing", where=line.blobs.path(digest)), needed_by[digest])
    for digest, path in _with_progress(present, progress) if deep else ():
        try:
            line.blobs.check(digest)
        except DamagedStore as error:
            if digest in needed_by or path.exists():
                note(error, needed_by.get(digest, ()))
    leftover = _strangers(line)
    if not damaged:
        try:
            needed = _Graph(line).reach(_roots(line, versions))
            leftover += [path for digest, path in present.items() if digest not in needed]
        except DamagedStore as error:
            note(error)
    return VerifyReport(len(present) + 3, list(damaged.values()), sorted(leftover))


def _with_progress(files: dict[str, Path], progress: Progress | None) -> Iterator[tuple[str, Path]]:
    sizes = {digest: _size(path) for digest, path in files.items()}
    done, total = 0, sum(sizes.values())
    for digest, path in files.items():
        yield digest, path
        done += sizes[digest]
        if progress:
            progress(done, total)


def collect(line: Line, dry_run: bool, dropped: Collection[str]) -> GcReport:
    """See `Line.gc`; the caller holds the lock."""
    graph = _Graph(line)
    versions = [version for version in line.versions() if version.id not in dropped]
    needed = graph.reach(_roots(line, versions)).union(*(_named(line, version) for version in versions))
    condemned = [path for digest, path in graph.present.items() if digest not in needed]
    condemned += [path for path in _strangers(line) if is_aside(path)]
    condemned += [line.run_dir(run) for run in line.finished_runs()]
    report = GcReport(condemned, sum(map(_size, condemned)), len(graph.present.keys() & needed))
    if dry_run:
        return report
    if idle := [corpus for corpus in line.corpora() if corpus not in needed]:
        with line.ledger.transaction() as image:
            image.executemany("DELETE FROM corpora WHERE digest = ?", [(corpus,) for corpus in idle])
    with one_clear_error(line.path):
        for path in condemned:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return report


def disk(line: Line) -> DiskUse:
    """See `Line.disk`."""
    graph = _Graph(line)
    needs = {version.id: graph.reach([version.id, *line.notes(version).values()]) for version in line.versions()}
    users = Counter(digest for need in needs.values() for digest in need)
    own = {v: sum(_size(graph.present[digest]) for digest in need if users[digest] == 1) for v, need in needs.items()}
    return DiskUse(_size(line.path), own)


def _size(path: Path) -> int:
    """Bytes of a file, or of the files below a folder; 0 for what is gone by now."""
    if path.is_dir():
        return sum(map(_size, path.iterdir()))
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
