"""Content-addressed files: a file's name is the SHA-256 of its content, so every read can be verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store.documents import RESTORE
from regraft.store.files import (
    CHUNK,
    aside,
    chunks_of,
    make_folder,
    one_clear_error,
    replace_whole,
    sha256_of,
    sync_folder,
)
from regraft.store.versions import is_digest


class Blobs:
    """The files below one folder, `ab/abcd...` each. Who writes must hold the line's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: dict[str, tuple[int, int, int]] = {}

    def path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise RegraftError(f"{digest!r} is not the digest of a stored file", where=self.folder)
        return self.folder / digest[:2] / digest

    def put(self, chunks: Sequence[bytes | memoryview]) -> str:
        """Store content that lies in memory. If it is there and whole, nothing is written."""
        digest = sha256_of(chunks)
        if not self.holds(digest):
            target = self.path(digest)
            with one_clear_error(target):
                make_folder(target.parent)
                replace_whole(target, chunks)
        return digest

    def put_file(self, source: Path, *, link: bool = False) -> str:
        """Store a file's content, as a hard link where asked and possible, else as a copy."""
        try:
            digest = sha256_of(chunks_of(source))
        except OSError as error:
            raise RegraftError(f"cannot be read: {error.strerror}", where=source) from error
        if self.holds(digest):
            return digest
        target = self.path(digest)
        with one_clear_error(target):
            make_folder(target.parent)
            if not (link and _link(source, target)):
                replace_whole(target, _expecting(digest, chunks_of(source), source))
        return digest

    def holds(self, digest: str) -> bool:
        """Whether the file is there and whole."""
        try:
            self.file(digest)
        except DamagedStore:
            return False
        return True

    def file(self, digest: str) -> Path:
        """The path of a file found whole; hashed once per process for each (modification time, size, inode)."""
        path = self.path(digest)
        with _reading(path):
            stamp = _stamp(path)
        if self._verified.get(digest) != stamp:
            self.check(digest)
            self._verified[digest] = stamp
        return path

    def check(self, digest: str) -> None:
        """Read the file now; DamagedStore if it is not whole."""
        self._verified.pop(digest, None)
        for _ in self.stream(digest):
            pass

    def read(self, digest: str) -> bytes:
        """The content, verified."""
        path = self.path(digest)
        with _reading(path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise _changed(path)
        return data

    def read_into(self, digest: str, buffer: memoryview) -> None:
        """Fill `buffer`, which is as long as the file, and verify what came."""
        path, check = self.path(digest), hashlib.sha256()
        with _reading(path), open(path, "rb", buffering=0) as file:
            rest = buffer
            while size := file.readinto(rest[:CHUNK]):
                check.update(rest[:size])
                rest = rest[size:]
            check.update(file.read(1))
        if check.hexdigest() != digest:
            raise _changed(path)

    def stream(self, digest: str) -> Iterator[memoryview]:
        """The content in pieces, each valid until the next; DamagedStore follows the last if they were not whole."""
        path, check = self.path(digest), hashlib.sha256()
        with _reading(path):
            for chunk in chunks_of(path):
                check.update(chunk)
                yield chunk
        if check.hexdigest() != digest:
            raise _changed(path)

    def size(self, digest: str) -> int:
        """Bytes of the file."""
        path = self.path(digest)
        with _reading(path):
            return path.stat().st_size

    def walk(self) -> Iterator[Path]:
        """Every file below the folder, in order of path, debris included."""
        for place, folders, names in os.walk(self.folder):
            folders.sort()
            yield from (Path(place, name) for name in sorted(names))

    def present(self) -> dict[str, Path]:
        """Digest -> path of every stored file, whole or damaged."""
        return {path.name: path for path in self.walk() if self.is_blob(path)}

    def is_blob(self, path: Path) -> bool:
        return is_digest(path.name) and path == self.path(path.name)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DamagedStore("the stored file is missing", where=path, do=RESTORE) from None
    except OSError as error:
        raise DamagedStore(f"the stored file cannot be read: {error.strerror}", where=path) from error


def _changed(path: Path) -> DamagedStore:
    return DamagedStore(
        f"the stored file ({path.stat().st_size} bytes) is not what its digest says", where=path, do=RESTORE
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _expecting(digest: str, chunks: Iterator[memoryview], source: Path) -> Iterator[memoryview]:
    check = hashlib.sha256()
    for chunk in chunks:
        check.update(chunk)
        yield chunk
    if check.hexdigest() != digest:
        raise RegraftError("the file changed while it was read", where=source, do="Try again when nobody writes to it")


def _link(source: Path, target: Path) -> bool:
    """Make `target` a second name of `source` with the mode of a new file; False where that cannot be."""
    temporary = aside(target)
    try:
        os.link(source.resolve(), temporary)
        os.chmod(temporary, target.parent.stat().st_mode & 0o644)
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        return False
    sync_folder(target.parent)
    return True
