"""Files that are whole or absent: write aside, sync, rename, sync the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from regraft.core.errors import RegraftError

CHUNK = 1 << 20

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space and try again"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space and try again"),
    errno.EFBIG: ("the file would exceed the size limit", "Raise the file size limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "Use a folder you can write to"),
    errno.EACCES: ("permission denied", "Use a folder you can write to"),
    errno.EPERM: ("permission denied", "Use a folder you can write to"),
}


@contextmanager
def one_clear_error(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into one RegraftError that says what to do."""
    try:
        yield
    except OSError as error:
        what, do = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
        raise RegraftError(f"cannot write: {what}", where=path, do=do) from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut (Windows cannot, and keeps no such promise)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` below an existing parent and sync the parent; nothing if it is there."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def aside(target: Path) -> Path:
    """A fresh temporary name beside `target`; `is_aside` knows it as debris if a writer is killed."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def is_aside(path: Path) -> bool:
    return re.fullmatch(r"\..+\.[0-9a-f]{12}\.tmp", path.name) is not None


def write_synced(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Create `path` (mode 0644 less the umask) with `chunks` as content and sync it. No partial file stays behind."""
    try:
        with open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            for chunk in chunks:
                rest = memoryview(chunk)
                while len(rest):
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except BaseException as error:
        if not isinstance(error, FileExistsError):
            path.unlink(missing_ok=True)
        raise


def replace_whole(target: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Give `target` this content in one step: a reader, or a crash, sees the old file or the new one."""
    temporary = aside(target)
    write_synced(temporary, chunks)
    try:
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def chunks_of(path: Path) -> Iterator[memoryview]:
    """The content of `path` in pieces of at most 1 MiB; each piece is valid until the next is asked for."""
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


def sha256_of(chunks: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def inside(name: str, where: object) -> str:
    """`name` if it is a plain relative path that stays inside its folder, on every operating system.

    Raises:
        RegraftError: it is empty or absolute, has a `..`, a backslash, a drive or a control character.
    """
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and all(part not in ("", ".", "..", "/", "//") for part in parts)
    if not name or not plain or re.search(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:", name):
        raise RegraftError(
            f"{name!r} is a path outside the folder, or not a plain one",
            where=where,
            do="Only relative paths without '..', backslash or drive are accepted",
        )
    return name
