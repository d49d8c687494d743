"""Canonical JSON: one value, one sequence of bytes, one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from regraft.core.errors import DamagedStore, RegraftError

JSON: TypeAlias = Mapping[str, "JSON"] | Sequence["JSON"] | str | int | float | bool | None


def canonical(document: JSON) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and no NaN, so that equal documents have equal digests.

    Raises:
        RegraftError: a value is not JSON: another type, a key that is not a string, NaN or infinity.
    """
    _check(document, "")
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RegraftError(f"not a JSON document: {error}") from None


def _check(value: object, place: str) -> None:
    """Refuse keys that `json` would silently turn into strings (two keys could become one)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RegraftError(f"not a JSON document: key {key!r} is not a string", where=place or None)
            _check(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, f"{place}[{index}]")


def parse(data: bytes, where: Path) -> Any:
    """The document in `data`; DamagedStore naming `where` if it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DamagedStore("is not JSON", where=where) from None


def seal(document: Mapping[str, JSON]) -> bytes:
    """The document as a file that checks itself: its last line is the SHA-256 of the lines before."""
    body = canonical(document) + b"\n"
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


def unseal(data: bytes, where: Path) -> dict[str, Any]:
    """The document of a sealed file, or DamagedStore if one bit of it differs from what was written."""
    body, _, check = data.removesuffix(b"\n").rpartition(b"\n")
    body += b"\n"
    if not data.endswith(b"\n") or check != hashlib.sha256(body).hexdigest().encode():
        raise DamagedStore("the file does not match its own checksum", where=where, do=RESTORE)
    document: dict[str, Any] = parse(body, where)
    return document


RESTORE = "Restore this file from a backup"
