"""Names and texts from outside, checked where they come in, before any work."""

from __future__ import annotations

import os
from pathlib import Path

from regraft.core.errors import RegraftError


def shown(text: str | Path) -> str:
    """The text, what is not UTF-8 in it as an escape: it can be printed and kept."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def in_utf8(text: str | Path) -> bool:
    return shown(text) == str(text)


def utf8_name(name: str | Path) -> None:
    """Raises RegraftError for a name that is not UTF-8, so that no manifest could hold it."""
    if not in_utf8(name):
        raise RegraftError("the name is not UTF-8", where=shown(name), do="Rename it")


def utf8_text(text: str, where: str) -> None:
    """Raises RegraftError for a text that is not UTF-8, so that no log could hold it; `where` is its option."""
    if not in_utf8(text):
        raise RegraftError(f"'{shown(text)}' is not UTF-8", where=where, do="Write it in UTF-8")


def regular_file(path: str | Path) -> None:
    """Raises RegraftError for a pipe, a device or a socket; a folder, or nothing, is for the reader to name."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise RegraftError("is no regular file, so it cannot be read twice", where=path, do="Save it to a file first")


__all__ = ["in_utf8", "regular_file", "shown", "utf8_name", "utf8_text"]
