"""The ledger: a small SQLite database that is read whole, verified, and replaced whole.

SQLite writes in place, which a checksum of the file cannot follow through a crash. So a transaction happens in memory
on a verified image; then `ledger.sha256` names the digests of the image that is and the image that is to come, and one
rename makes the new image the ledger. Killed before the rename the line is as before, killed after it as after; always
the digest of the ledger that is there is named. Readers need no lock and no right to write.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from regraft.core.errors import DamagedStore
from regraft.store.documents import JSON, RESTORE, canonical, seal, unseal
from regraft.store.files import one_clear_error, replace_whole

LEDGER, CHECKSUM = "ledger.sqlite", "ledger.sha256"

_SCHEMA = """
PRAGMA page_size = 1024;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    name TEXT, old TEXT, new TEXT, why TEXT NOT NULL, run TEXT, details TEXT NOT NULL
);
CREATE TABLE versions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, message TEXT NOT NULL,
    event INTEGER NOT NULL REFERENCES events
);
CREATE TABLE parents (
    child TEXT NOT NULL, place INTEGER NOT NULL, parent TEXT NOT NULL, PRIMARY KEY (child, place)
) WITHOUT ROWID;
CREATE INDEX children ON parents (parent);
CREATE TABLE pointers (name TEXT PRIMARY KEY, version TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE corpora (digest TEXT PRIMARY KEY, row_index TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE uses (version TEXT NOT NULL, corpus TEXT NOT NULL, role TEXT NOT NULL, touched TEXT);
CREATE INDEX users ON uses (corpus);
CREATE TABLE notes (version TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (version, name))
WITHOUT ROWID;
"""

_in_transaction = threading.RLock()


class Event(NamedTuple):
    """Something that happened to the line.

    what is "create", "commit", "note", "promote", "rollback" or "drop"; name the pointer that moved, from version old
    to new; details what the committer wrote down about time and place (seconds, environment).
    """

    number: int
    time: str
    who: str
    what: str
    name: str | None
    old: str | None
    new: str | None
    why: str
    run: str | None
    details: Any


class Ledger:
    """The database of one line. Who writes must hold the line's lock."""

    def __init__(self, folder: Path) -> None:
        self.path, self.checksum = folder / LEDGER, folder / CHECKSUM
        self._seen: tuple[object, ...] = ()
        self._image = _open()

    @staticmethod
    def create(folder: Path) -> None:
        """Write the ledger of a line without versions."""
        ledger, image = Ledger(folder), _open()
        image.executescript(_SCHEMA)
        record(image, "create")
        ledger._publish(image, [])

    def read(self) -> sqlite3.Connection:
        """The ledger as it is now, to be read only. An image is loaded and verified once, and again when it changed.

        Raises:
            DamagedStore: the ledger or its checksum is missing or differs from what was written.
        """
        with _in_transaction:
            if not self._seen or self._seen != self._stamp():
                self._load()
            return self._image

    def verify(self) -> None:
        """Read both files again and raise DamagedStore if they are not whole."""
        with _in_transaction:
            self._load()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A private copy of the ledger that becomes the ledger at the end, if it changed and nothing was raised."""
        with _in_transaction:
            before = self._load()
            image = _open(self._image.serialize())
            yield image
            if image.total_changes:
                self._publish(image, [before])

    def _stamp(self) -> tuple[object, ...]:
        try:
            status = self.path.stat()
            return self.checksum.read_bytes(), status.st_ino, status.st_mtime_ns, status.st_size
        except OSError as error:
            raise _unreadable(error) from None

    def _load(self) -> str:
        """Load the image and return its digest. A writer may be replacing the two files: then both change, and a
        second look decides."""
        looks: list[tuple[bytes, bytes]] = []
        while True:
            stamp = self._stamp()
            try:
                looks.append((self.checksum.read_bytes(), self.path.read_bytes()))
            except OSError as error:
                raise _unreadable(error) from None
            checksum, image = looks[-1]
            digest = hashlib.sha256(image).hexdigest()
            if digest in unseal(checksum, self.checksum).get("whole", ()):
                self._image, self._seen = _open(image), stamp
                return digest
            if looks[-1] in looks[:-1]:
                raise DamagedStore("the ledger is not what was written", where=self.path, do=RESTORE)

    def _publish(self, image: sqlite3.Connection, before: list[str]) -> None:
        content = image.serialize()
        with one_clear_error(self.path):
            replace_whole(self.checksum, [seal({"whole": [*before, hashlib.sha256(content).hexdigest()]})])
            replace_whole(self.path, [content])
        self._image, self._seen = image, self._stamp()


class _Image(sqlite3.Connection):
    def __del__(self) -> None:
        self.close()  # a reader may still hold an image that was replaced, so the last one to drop it closes it


def _open(content: bytes = b"") -> sqlite3.Connection:
    image = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Image)
    if content:
        image.deserialize(content)
    return image


def _unreadable(error: OSError) -> DamagedStore:
    return DamagedStore(f"the file cannot be read: {error.strerror}", where=error.filename, do=RESTORE)


def record(
    image: sqlite3.Connection,
    what: str,
    *,
    name: str | None = None,
    old: str | None = None,
    new: str | None = None,
    why: str = "",
    run: str | None = None,
    details: JSON = None,
) -> int:
    """Add an event with the present time and user; its number."""
    text = canonical({} if details is None else details).decode()
    row = (datetime.now(UTC).isoformat(timespec="seconds"), _who(), what, name, old, new, why, run, text)
    columns = "time, who, what, name, old, new, why, run, details"
    cursor = image.execute(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def events(image: sqlite3.Connection) -> list[Event]:
    """All events, oldest first."""
    rows = image.execute(f"SELECT {', '.join(Event._fields)} FROM events ORDER BY number")
    return [Event(*row)._replace(details=json.loads(row[-1])) for row in rows]


def ancestors(image: sqlite3.Connection, version: str) -> list[str]:
    """`version` and all it was made from, oldest first."""
    return _reach(image, version, "SELECT parent FROM parents JOIN found ON child = found.id")


def descendants(image: sqlite3.Connection, version: str) -> list[str]:
    """`version` and all that was made from it, oldest first."""
    return _reach(image, version, "SELECT child FROM parents JOIN found ON parent = found.id")


def _reach(image: sqlite3.Connection, version: str, step: str) -> list[str]:
    found = f"WITH RECURSIVE found (id) AS (SELECT ? UNION {step})"
    query = f"{found} SELECT id FROM versions JOIN found USING (id) ORDER BY number"
    return [row[0] for row in image.execute(query, (version,))]


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
