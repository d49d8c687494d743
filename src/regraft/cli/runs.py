"""Unfinished runs of a line: what each was asked to do is kept beside its checkpoints, in a file that checks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.core.errors import DamagedStore
from regraft.store import Line
from regraft.store.documents import seal, unseal
from regraft.store.files import one_clear_error, replace_whole

ORDER = "order.json"


def unfinished(line: Line) -> list[str]:
    """The runs that can be gone on with: begun, and without a version yet."""
    finished = line.finished_runs()
    return [run for run in line.runs() if run not in finished and _order(line, run).exists()]


def begin(line: Line, run: str, order: dict[str, Any]) -> None:
    """Makes the run one that can be gone on with."""
    path = _order(line, run)
    with one_clear_error(path):
        replace_whole(path, [seal(order)])


def read(line: Line, run: str) -> dict[str, Any]:
    """What the run was asked to do; DamagedStore if that is not what was written."""
    path = _order(line, run)
    try:
        return unseal(path.read_bytes(), path)
    except OSError as error:
        raise DamagedStore(f"cannot be read: {error.strerror}", where=path, do="Use --restart") from None


def damage(line: Line) -> list[DamagedStore]:
    """What is not whole among the files of unfinished runs."""
    runs = unfinished(line)
    if not runs:
        return []
    from regraft.engine import checkpoint

    found: list[DamagedStore] = []
    for run in runs:
        try:
            read(line, run)
        except DamagedStore as error:
            found.append(error)
        found += checkpoint.damage(line.run_dir(run))
    return found


def _order(line: Line, run: str) -> Path:
    return line.run_dir(run) / ORDER
