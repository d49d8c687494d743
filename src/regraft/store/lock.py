"""One writer at a time. The operating system holds the lock, so a dead process keeps nothing."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regraft.core.errors import RegraftError
from regraft.store.files import one_clear_error

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # a locked byte cannot be read on Windows, so it lies beyond the holder's name

    def _lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _Hold:
    """How often this process has entered one lock. Any thread may enter: the process is the writer."""

    def __init__(self) -> None:
        self.depth, self.handle = 0, -1


_guard = threading.Lock()
_holds: dict[Path, _Hold] = {}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; re-entrant in the process, across threads and objects.

    Raises:
        RegraftError: another process holds it (named by command, pid and host), or the folder cannot be written.
    """
    path = path.resolve()
    with _guard:
        hold = _holds.setdefault(path, _Hold())
        if hold.depth == 0:
            hold.handle = _acquire(path)
        hold.depth += 1
    try:
        yield
    finally:
        with _guard:
            hold.depth -= 1
            if hold.depth == 0:
                os.close(hold.handle)


def _acquire(path: Path) -> int:
    with one_clear_error(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle)
    except OSError:
        os.close(handle)
        raise RegraftError(
            f"another process is writing here: {_holder(path)}", where=path.parent, do="Wait until it is done"
        ) from None
    # The name is a courtesy to whoever waits: a full disk must not keep `gc` from starting.
    with suppress(OSError):
        name = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)[:200]}
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(name).encode())
    return handle


def _holder(path: Path) -> str:
    try:
        name = json.loads(path.read_bytes())
        return f"{name['command']} (pid {name['pid']} on {name['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said its name"


def _forget() -> None:
    """A forked child is not the writer: its copy of the handle must not keep a dead parent's lock alive."""
    global _guard
    _guard = threading.Lock()
    for hold in _holds.values():
        if hold.depth:
            os.close(hold.handle)
        hold.depth = 0
    _holds.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
