"""Long measurements: work in processes of one thread each, and notes of what is done."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from regraft.core.errors import RegraftError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Notes:
    """What is done of a measurement, one JSON line each: an interrupted one goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """The notes by key, the latest of each."""
        found = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                note = json.loads(line)
                found[note["key"]] = note["note"]
            except (ValueError, KeyError, TypeError):
                # Torn by a kill in the middle of the line: that work is done again.
                continue
        return found

    def write(self, key: str, note: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # Begins a line of its own even after a torn one.
            file.write(f"\n{json.dumps({'key': key, 'note': note})}\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, what: str
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` makes of it, as they end; `work` can be pickled, and runs on one thread.

    Raises RegraftError when a process dies; `what` says of what.
    """
    if jobs <= 1 or len(items) < 2:
        from regraft.engine.bits import one_thread

        with one_thread():
            yield from ((item, work(item)) for item in items)
        return
    pool = ProcessPoolExecutor(min(jobs, len(items)), get_context("spawn"), _begin)
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise RegraftError(f"a worker died while measuring {what}", do="Use fewer jobs if memory ran out") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
