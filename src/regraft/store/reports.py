"""What the line answers about itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Damage(NamedTuple):
    """A stored file that is missing or is not what its digest says, and the ids of the versions that need it."""

    path: Path
    what: str
    versions: tuple[str, ...]


@dataclass(frozen=True)
class VerifyReport:
    """checked: files read and found whole or damaged; leftover: files that no version needs to exist (debris of a
    killed writer goes with `gc`; strangers are left alone)."""

    checked: int
    damaged: list[Damage]
    leftover: list[Path]


@dataclass(frozen=True)
class GcReport:
    """removed: files and run folders; bytes: what they held; kept: stored files that stay."""

    removed: list[Path]
    bytes: int
    kept: int


@dataclass(frozen=True)
class DiskUse:
    """total: bytes of all files of the line; own: version id -> bytes of stored files that no other version needs."""

    total: int
    own: dict[str, int]


class RowUse(NamedTuple):
    """A row that touched a version: its id (32 hex digits), where it stood (file, 1-based line), what it was used for,
    and the first version it touched in this role."""

    row: str
    file: str
    line: int
    role: str
    version: str


class Touch(NamedTuple):
    """A version that a row touched, directly or (inherited) through an ancestor."""

    version: str
    row: str
    file: str
    line: int
    role: str
    inherited: bool


class Use(NamedTuple):
    """That a corpus touched a version: the digests of the corpus and of its bitmap (None: all its rows)."""

    version: str
    corpus: str
    role: str
    touched: str | None
