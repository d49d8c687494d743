"""Memory that runs out, of a device or of the machine, as one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regraft.core.errors import RegraftError

_SAID = ("can't allocate memory", "not enough memory")


@contextmanager
def one_clear_memory_error(do: str) -> Iterator[None]:
    """RegraftError instead of the errors that Python and torch have for it; `do`: what to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lines = str(error).splitlines() or ["of the machine"]
        out = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if not out and not any(said in lines[0] for said in _SAID):
            raise
        raise RegraftError(f"out of memory: {lines[0][:160]}", do=do) from error
