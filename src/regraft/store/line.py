"""A line: the history of one model, in a folder.

    regraft.json     what the folder is (format, about)
    ledger.sqlite    versions, pointers, events, which corpus touched which version; ledger.sha256 verifies it
    blobs/ab/...     content-addressed files: one tensor each, JSON documents, other files
    runs/<id>/       unfinished runs, the engine's own
    lock             one writer at a time

A version is whole or absent: its files are written first (aside, synced, renamed), then the ledger is replaced once.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from regraft.core.errors import DamagedStore, RegraftError
from regraft.core.names import utf8_text
from regraft.store import ledger as book
from regraft.store import lock
from regraft.store.blobs import Blobs
from regraft.store.documents import JSON, canonical, parse, seal, unseal
from regraft.store.files import aside, is_aside, make_folder, one_clear_error, sync_folder, write_synced
from regraft.store.ledger import Event, Ledger
from regraft.store.reports import DiskUse, GcReport, RowUse, Touch, Use, VerifyReport
from regraft.store.tensorfile import Entry, header
from regraft.store.tensorfile import parse as parse_tensors
from regraft.store.versions import Draft, TensorRef, Version, draft_of

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
IDENTITY, BLOBS, RUNS, LOCK = "regraft.json", "blobs", "runs", "lock"

Ref: TypeAlias = str | Version
"""A version, or what names one: a full id, a unique prefix of 4 digits or more, "v3", a pointer, "head", "latest"."""
Content: TypeAlias = str | os.PathLike[str] | bytes
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_TENSOR = "tensor"


class Line:
    """One model's history. Reading needs no lock and no right to write; each method that writes takes the lock.

    A digest that was put is safe from `gc` once a version or a file of an unfinished run names it; put and commit in
    one `with line.writing()`.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Use `Line.open` or `Line.create`."""
        self.path, self.about = path, about
        self.blobs = Blobs(path / BLOBS)
        self.ledger = Ledger(path)

    def __repr__(self) -> str:
        return f"Line({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, about: Mapping[str, JSON] | None = None) -> Line:
        """Make a line in a new or empty folder; it is there whole, or not at all.

        Args:
            about: what the line is of; anything JSON, kept unchanged.
        """
        target = Path(os.path.abspath(path))
        identity = seal({"format": FORMAT, "about": dict(about or {})})
        with one_clear_error(target):
            if target.exists() and (not target.is_dir() or any(target.iterdir())):
                what = "this is already a line" if cls.is_line(target) else "the folder is not empty"
                raise RegraftError(what, where=target, do="Choose a new folder for the line")
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = aside(target)
            try:
                for folder in (draft, draft / BLOBS, draft / RUNS):
                    folder.mkdir()
                Ledger.create(draft)
                write_synced(draft / IDENTITY, [identity])
                sync_folder(draft)
                if os.name == "nt" and target.exists():
                    target.rmdir()
                os.replace(draft, target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            sync_folder(target.parent)
        return cls.open(target)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Line:
        """The line at `path`.

        Raises:
            RegraftError: there is none, or a newer regraft made it.
            DamagedStore: regraft.json is not what was written.
        """
        folder = Path(os.path.abspath(path))
        if not cls.is_line(folder):
            raise RegraftError("there is no line here", where=folder, do="Start one with `regraft adopt MODEL LINE`")
        identity = read_identity(folder)
        if identity["format"] > FORMAT:
            what = f"the line has format {identity['format']}, this regraft reads up to {FORMAT}"
            raise RegraftError(what, where=folder / IDENTITY, do="Upgrade regraft")
        return cls(folder, identity["about"])

    @staticmethod
    def is_line(path: str | os.PathLike[str]) -> bool:
        """Whether the folder says that it is a line."""
        return (Path(path) / IDENTITY).is_file()

    def writing(self) -> AbstractContextManager[None]:
        """Hold the line for writing; re-entrant in the process. RegraftError names another process that holds it."""
        return lock.writing(self.path / LOCK)

    # Objects

    def put_tensor(self, tensor: Tensor) -> TensorRef:
        """Store a dense tensor of any shape; if it is there and whole, nothing is written."""
        from regraft.store.tensors import to_bytes

        layout, values = to_bytes(tensor)
        with self.writing():
            digest = self.blobs.put([header({_TENSOR: layout}), values])
        return TensorRef(digest, *layout, len(values))

    def put_json(self, document: JSON) -> str:
        """Store a document in canonical form; its digest."""
        with self.writing():
            return self.blobs.put([canonical(document)])

    def put_file(self, source: Content) -> str:
        """Store a file's content, or bytes, as they are; the digest."""
        with self.writing():
            return self.blobs.put([source]) if isinstance(source, bytes) else self.blobs.put_file(Path(source))

    def tensor(self, ref: TensorRef | str, device: str = "cpu") -> Tensor:
        """A stored tensor, fresh memory, verified.

        Raises:
            DamagedStore: its file is missing, or is not what the digest says, or not what `ref` says.
        """
        from regraft.store.tensors import empty_buffer, from_buffer

        digest = ref if isinstance(ref, str) else ref.digest
        buffer, view = empty_buffer(self.blobs.size(digest))
        self.blobs.read_into(digest, view)
        entry = self._entry(digest, view)
        if not isinstance(ref, str) and ref.layout != entry[:2]:
            what = f"the tensor is {entry.dtype} {list(entry.shape)}, but {ref.dtype} {list(ref.shape)} was asked for"
            raise DamagedStore(what, where=self.blobs.path(digest))
        return from_buffer(buffer[entry.start : entry.stop], entry[:2]).to(device)

    def _entry(self, digest: str, data: memoryview) -> Entry:
        try:
            return parse_tensors(data)[_TENSOR]
        except (ValueError, KeyError):
            raise DamagedStore("the stored file holds no tensor", where=self.blobs.path(digest)) from None

    def json(self, digest: str) -> Any:
        """A stored document, verified."""
        return parse(self.blobs.read(digest), self.blobs.path(digest))

    def bytes(self, digest: str) -> bytes:
        """A stored file's content, verified."""
        return self.blobs.read(digest)

    def file(self, digest: str) -> Path:
        """The path of a stored file, to be read in place or memory-mapped, never written.

        Verified once per process for each (modification time, size, inode): reading a large shard again and again does
        not hash it each time. A bit that flips under a running process is found by the next process, or by `verify`.
        """
        return self.blobs.file(digest)

    # Versions

    def commit(self, draft: Draft, details: JSON = None, *, run: str | None = None) -> Version:
        """Make `draft` a version and move head to it; a version with this content is that version, not another one.

        Args:
            details: what depends on time and place (seconds, environment): kept with the event, not in the version.
            run: id of the run that made it; its folder goes once the version stands.

        Raises:
            RegraftError: a parent, a corpus or a stored file that it names is not in this line.
        """
        with self.writing():
            known = self.ledger.read()
            for parent in draft.parents:
                if self._row(known, parent) is None:
                    raise RegraftError(f"the parent {parent} is not a version of this line", where=self.path)
            self._check_blobs(draft)
            self._check_corpora(draft)
            identity = self.put_json(draft.manifest())
            with self.ledger.transaction() as image:
                new, head = self._row(image, identity) is None, self._target(image, "head")
                if new or head != identity:
                    event = book.record(
                        image,
                        "commit",
                        name="head",
                        old=head,
                        new=identity,
                        why=draft.message,
                        run=run,
                        details=details,
                    )
                    _set_pointer(image, "head", identity)
                if new:
                    _insert(image, identity, draft, event)
            if run is not None:
                with suppress(RegraftError):  # the version stands; a folder that cannot go now goes with `gc`
                    self.remove_run(run)
            return self.version(identity)

    def _check_blobs(self, draft: Draft) -> None:
        for digest, size in draft.blobs().items():
            try:
                stored = self.blobs.size(digest)
            except DamagedStore:
                raise RegraftError(f"the stored file {digest} is not in this line", do="Put it, then commit") from None
            if size is not None and stored < size:
                raise DamagedStore(f"the stored file has {stored} of {size} bytes", where=self.blobs.path(digest))

    def _check_corpora(self, draft: Draft) -> None:
        for use in draft.corpora:
            documents = self.corpus(use.corpus)["documents"]
            bitmap = ("uint8", (-(-documents // 8),))
            if use.touched and use.touched.layout != bitmap:
                what = f"the bitmap of {documents} documents must be uint8 {list(bitmap[1])}"
                raise RegraftError(f"{what}, not {use.touched.dtype} {list(use.touched.shape)}")

    def version(self, ref: Ref) -> Version:
        """The version that `ref` names; an error lists what is near."""
        image = self.ledger.read()
        name = ref.id if isinstance(ref, Version) else ref
        utf8_text(name, "version")
        if name == "latest":
            row = image.execute("SELECT id FROM versions ORDER BY number DESC LIMIT 1").fetchone()
        elif match := re.fullmatch(r"v([0-9]{1,15})", name):
            row = image.execute("SELECT id FROM versions WHERE number = ?", (int(match[1]),)).fetchone()
        elif re.fullmatch(r"[0-9a-f]{4,64}", name):
            row = self._by_prefix(image, name)
        else:
            row = image.execute("SELECT version FROM pointers WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise RegraftError(f"no version {name!r}", where=self.path, do=self._near(image, name))
        found = self._row(image, row[0])
        assert found is not None
        return found

    def _by_prefix(self, image: sqlite3.Connection, prefix: str) -> tuple[str] | None:
        rows = image.execute(
            "SELECT id, number FROM versions WHERE id GLOB ? ORDER BY number", (prefix + "*",)
        ).fetchall()
        if len(rows) > 1:
            candidates = ", ".join(f"v{number} {identity[:12]}" for identity, number in rows[:8])
            raise RegraftError(
                f"{prefix!r} begins {len(rows)} versions", where=self.path, do=f"Choose one: {candidates}"
            )
        return (rows[0][0],) if rows else None

    def _near(self, image: sqlite3.Connection, name: str) -> str:
        names = [row[0] for row in image.execute("SELECT name FROM pointers")]
        numbered = image.execute("SELECT number, id FROM versions ORDER BY number DESC").fetchall()
        names += [*(f"v{number}" for number, _ in numbered), *(identity[:12] for _, identity in numbered), "latest"]
        if not numbered:
            return "The line has no versions yet"
        near = difflib.get_close_matches(name, names, n=4, cutoff=0.5) or names[:4]
        return f"Near: {', '.join(near)}"

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        image = self.ledger.read()
        parents: dict[str, list[str]] = {}
        for child, parent in image.execute("SELECT child, parent FROM parents ORDER BY child, place"):
            parents.setdefault(child, []).append(parent)
        return [self._version(row, parents.get(row[0], [])) for row in image.execute(_VERSIONS + " ORDER BY v.number")]

    def _row(self, image: sqlite3.Connection, identity: str) -> Version | None:
        row = image.execute(_VERSIONS + " WHERE v.id = ?", (identity,)).fetchone()
        if row is None:
            return None
        parents = image.execute("SELECT parent FROM parents WHERE child = ? ORDER BY place", (identity,))
        return self._version(row, [parent for (parent,) in parents])

    def _version(self, row: tuple[str, int, str, str], parents: Sequence[str]) -> Version:
        identity, number, message, time = row
        return Version(identity, number, tuple(parents), message, time, lambda: self.content(identity))

    def content(self, identity: str) -> Draft:
        """What the manifest of a version says, read and checked."""
        return draft_of(self.json(identity), self.blobs.path(identity))

    def pointers(self) -> dict[str, str]:
        """Pointer name -> version id."""
        return dict(self.ledger.read().execute("SELECT name, version FROM pointers ORDER BY name"))

    def events(self) -> list[Event]:
        """Who did what, when: oldest first."""
        return book.events(self.ledger.read())

    def point(self, name: str, version: Ref, why: str = "") -> Version:
        """Promote: let the pointer `name` ("released") name a version; its earlier targets stay in `events`."""
        self.check_pointer(name)
        return self._move("promote", name, version, why)

    @staticmethod
    def check_pointer(name: str) -> None:
        """Raises RegraftError for a name that a pointer cannot have."""
        taken = re.fullmatch(r"head|latest|v[0-9]+|[0-9a-f]{4,}", name)
        if taken or not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", name):
            what = f"{name!r} cannot name a pointer"
            raise RegraftError(what, do="Use letters, digits, '.', '_', '-'; not head, latest, v1 or an id")

    def rollback(self, to: Ref, why: str = "") -> Version:
        """Move head to an earlier version (or any other): the next update builds there. Nothing is deleted."""
        return self._move("rollback", "head", to, why)

    def _move(self, what: str, name: str, version: Ref, why: str) -> Version:
        with self.writing():
            target = self.version(version)
            with self.ledger.transaction() as image:
                book.record(image, what, name=name, old=self._target(image, name), new=target.id, why=why)
                _set_pointer(image, name, target.id)
            return target

    @staticmethod
    def _target(image: sqlite3.Connection, name: str) -> str | None:
        row = image.execute("SELECT version FROM pointers WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def load(
        self, version: Ref, bundle: str = "release", names: Iterable[str] | None = None, device: str = "cpu"
    ) -> dict[str, Tensor]:
        """The tensors of a bundle, each in its own memory, each verified; all of them, or those in `names`."""
        found = self.version(version)
        refs = self.bundle(found, bundle)
        wanted = list(refs if names is None else names)
        if absent := next((name for name in wanted if name not in refs), None):
            near = ", ".join(difflib.get_close_matches(absent, refs, n=4, cutoff=0.3)) or "no near name"
            raise RegraftError(f"{found.name} has no tensor {absent!r} in bundle {bundle!r}", do=f"Near: {near}")
        return {name: self.tensor(refs[name], device) for name in wanted}

    def bundle(self, version: Ref, name: str) -> Mapping[str, TensorRef]:
        """Tensor name -> stored tensor, or an error that lists the bundles of the version."""
        found = self.version(version)
        if name not in found.bundles:
            present = ", ".join(sorted(found.bundles)) or "none"
            raise RegraftError(f"{found.name} has no bundle {name!r}", where=self.path, do=f"It has: {present}")
        return found.bundles[name]

    def drop(self, version: Ref, why: str = "") -> None:
        """Forget a version; what only it needs goes at the next `gc`. Refused while a pointer or a child needs it."""
        with self.writing():
            found = self.version(version)
            self.check_drop(found)
            with self.ledger.transaction() as image:
                for table, column in (
                    ("versions", "id"),
                    ("parents", "child"),
                    ("uses", "version"),
                    ("notes", "version"),
                ):
                    image.execute(f"DELETE FROM {table} WHERE {column} = ?", (found.id,))
                book.record(image, "drop", old=found.id, why=why)

    def check_drop(self, version: Ref, but: Collection[str] = ()) -> None:
        """Raises RegraftError for a version that a pointer or a child needs; children among the ids `but` aside."""
        found, image = self.version(version), self.ledger.read()
        names = image.execute("SELECT name FROM pointers WHERE version = ? ORDER BY name", (found.id,))
        query = "SELECT number, id FROM parents JOIN versions ON child = id WHERE parent = ? ORDER BY number"
        children = [f"its child v{n}" for n, identity in image.execute(query, (found.id,)) if identity not in but]
        if needs := [f"pointer {name!r}" for (name,) in names] + children:
            what = f"{found.name} is needed by {', '.join(needs)}"
            raise RegraftError(what, where=self.path, do="Move the pointer or drop the child first")

    def note(self, version: Ref, documents: Mapping[str, JSON], why: str = "") -> None:
        """Keep what was found out of a version after it was made, by name; the version stays as it is. A name that is
        there is replaced."""
        with self.writing():
            found = self.version(version)
            stored = [(found.id, name, self.put_json(document)) for name, document in documents.items()]
            with self.ledger.transaction() as image:
                image.executemany("REPLACE INTO notes VALUES (?, ?, ?)", stored)
                book.record(image, "note", new=found.id, why=why)

    def notes(self, version: Ref) -> dict[str, str]:
        """Names of what was noted of a version -> digests of the documents."""
        query = "SELECT name, document FROM notes WHERE version = ? ORDER BY name"
        return dict(self.ledger.read().execute(query, (self.version(version).id,)))

    # Rows

    def add_corpus(
        self, manifest: Mapping[str, JSON], shards: Sequence[str | os.PathLike[str]], link: bool = True
    ) -> str:
        """Store a corpus and index its rows; the digest of the manifest. A corpus that is there is found, not added.

        Args:
            manifest: {"documents", "shards": [{"digest", "documents"}], "files": [{"path"}], ...}.
            shards: the files of the shards in the manifest's order: safetensors with `ids` [documents, 16, uint8],
                `file` [documents, int32, index in files], `line` [documents, int64, 1-based], and others.
            link: hard-link the shards where the file system can. Nobody may write to them afterwards.
        """
        from regraft.store.corpora import build_index, check_manifest

        with self.writing():
            stored = [self.blobs.put_file(Path(shard), link=link) for shard in shards]
            check_manifest(manifest, stored)
            digest = self.put_json(manifest)
            known = digest in self.corpora()
            if not known or not self.blobs.holds(self.row_index(digest)):
                index = self.blobs.put(build_index(manifest, [self.blobs.path(shard) for shard in stored]))
                with self.ledger.transaction() as image:
                    image.execute("REPLACE INTO corpora VALUES (?, ?)", (digest, index))
        return digest

    def corpora(self) -> list[str]:
        """Digests of the corpora of this line."""
        return [digest for (digest,) in self.ledger.read().execute("SELECT digest FROM corpora ORDER BY digest")]

    def corpus(self, digest: str) -> Any:
        """A corpus' manifest."""
        self.row_index(digest)
        return self.json(digest)

    def row_index(self, corpus: str) -> str:
        """Digest of the file that finds the corpus' rows by id (see `regraft.store.corpora`)."""
        row = self.ledger.read().execute("SELECT row_index FROM corpora WHERE digest = ?", (corpus,)).fetchone()
        if row is None:
            raise RegraftError(f"no corpus {corpus!r}", where=self.path, do="Add it with add_corpus")
        return str(row[0])

    def rows_of(self, version: Ref, limit: int | None = None, inherited: bool = True) -> Iterator[RowUse]:
        """The rows that touched a version, and (inherited) the versions it was made from, oldest version first.

        A row is given once for each role it had, with the first version it touched in that role. Memory: one bit mask
        of each corpus and role, whatever the number of rows.
        """
        from regraft.store.corpora import rows_of

        identity = self.version(version).id
        lineage = book.ancestors(self.ledger.read(), identity) if inherited else [identity]
        return islice(rows_of(self, [(ancestor, self._uses("version", ancestor)) for ancestor in lineage]), limit)

    def versions_of(self, row: str) -> list[Touch]:
        """The versions that a row touched, and their descendants as inherited, oldest version first.

        Args:
            row: the row's id or at least 4 hexadecimal digits of it; every row that begins so is reported.
        """
        from regraft.store.corpora import touches

        image = self.ledger.read()
        numbers = dict(image.execute("SELECT id, number FROM versions"))
        direct = touches(self, row, {corpus: self._uses("corpus", corpus) for corpus in self.corpora()})
        passed_on = {
            touch._replace(version=heir, inherited=True)
            for touch in direct
            for heir in book.descendants(image, touch.version)
        }
        through_others = {touch for touch in passed_on if touch._replace(inherited=False) not in direct}
        return sorted(direct | through_others, key=lambda touch: (numbers[touch.version], touch))

    def _uses(self, column: Literal["version", "corpus"], value: str) -> list[Use]:
        columns = ", ".join(Use._fields)
        query = f"SELECT {columns} FROM uses WHERE {column} = ? ORDER BY {columns}"
        return [Use(*row) for row in self.ledger.read().execute(query, (value,))]

    def values(self, digest: str) -> memoryview:
        """The raw bytes of a stored tensor, verified, without torch."""
        data = memoryview(self.blobs.read(digest))
        entry = self._entry(digest, data)
        return data[entry.start : entry.stop]

    # Care

    def verify(self, deep: bool = True, progress: Progress | None = None) -> VerifyReport:
        """Check the whole line: every stored file against its digest (or, not deep, that none is missing), the ledger,
        regraft.json. Damage is reported, not raised."""
        from regraft.store.care import verify

        return verify(self, deep, progress)

    def gc(self, dry_run: bool = False, *, dropped: Collection[str] = ()) -> GcReport:
        """Remove what no version and no unfinished run needs: debris of killed writers, files of dropped versions,
        corpora without a user, folders of finished runs.

        A run needs every digest that stands in a *.json file of its folder, and what those documents name in turn.

        Args:
            dropped: in a dry run, ids of versions that would be dropped before.

        Raises:
            DamagedStore: a manifest cannot be read, so what it needs is unknown; nothing is removed.
        """
        from regraft.store.care import collect

        with self.writing():
            return collect(self, dry_run, dropped if dry_run else ())

    def disk(self) -> DiskUse:
        """How many bytes the line takes, and how many each version has to itself."""
        from regraft.store.care import disk

        return disk(self)

    # Unfinished runs

    def run_dir(self, run: str) -> Path:
        """The folder of a run, made if need be."""
        folder = self._run(run)
        if not folder.is_dir():
            with self.writing(), one_clear_error(folder):
                make_folder(folder)
        return folder

    def runs(self) -> list[str]:
        """Ids of the runs that have a folder."""
        return sorted(path.name for path in (self.path / RUNS).iterdir() if path.is_dir() and not is_aside(path))

    def finished_runs(self) -> list[str]:
        """Runs whose version stands but whose folder is still there: the writer was killed in between."""
        done = self._done_runs()
        return [run for run in self.runs() if run in done]

    def fresh_run(self, run: str) -> str:
        """The name, with a number behind it if a run of that name was finished before."""
        done = self._done_runs()
        return next(name for i in range(len(done) + 1) if (name := f"{run}.{i + 1}" if i else run) not in done)

    def _done_runs(self) -> set[str]:
        return {run for (run,) in self.ledger.read().execute("SELECT run FROM events WHERE run IS NOT NULL")}

    def remove_run(self, run: str) -> None:
        """Remove a run's folder, at once for every reader; nothing if there is none."""
        folder = self._run(run)
        with self.writing(), one_clear_error(folder):
            if folder.is_dir():
                condemned = aside(folder)
                os.replace(folder, condemned)
                shutil.rmtree(condemned)

    def _run(self, run: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", run):
            raise RegraftError(f"{run!r} cannot name a run", do="Use letters, digits, '.', '_' and '-'")
        return self.path / RUNS / run


_VERSIONS = "SELECT v.id, v.number, v.message, e.time FROM versions v JOIN events e ON e.number = v.event"


def _set_pointer(image: sqlite3.Connection, name: str, version: str) -> None:
    image.execute("REPLACE INTO pointers VALUES (?, ?)", (name, version))


def _insert(image: sqlite3.Connection, identity: str, draft: Draft, event: int) -> None:
    image.execute("INSERT INTO versions (id, message, event) VALUES (?, ?, ?)", (identity, draft.message, event))
    image.executemany(
        "INSERT INTO parents VALUES (?, ?, ?)",
        [(identity, place, parent) for place, parent in enumerate(draft.parents)],
    )
    image.executemany(
        "INSERT INTO uses VALUES (?, ?, ?, ?)",
        [(identity, use.corpus, use.role, use.touched.digest if use.touched else None) for use in draft.corpora],
    )


def read_identity(folder: Path) -> dict[str, Any]:
    """The document in regraft.json; DamagedStore if a bit of it differs from what was written."""
    path = folder / IDENTITY
    try:
        return unseal(path.read_bytes(), path)
    except OSError as error:
        raise DamagedStore(f"the file cannot be read: {error.strerror}", where=path) from None
