"""Measurements in several processes: workers end with whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNS = (
    "import time; from regraft.evidence.running import in_processes; list(in_processes(time.sleep, [60, 60], 2, 'x'))"
)


def children(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid and "spawn_main" in _said(stat.parent):
                found.add(int(stat.parent.name))
        except OSError:
            continue
    return found


def _said(process: Path) -> str:
    return (process / "cmdline").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", f"if __name__ == '__main__': {RUNS}"]) as parent:
        deadline = time.monotonic() + 60
        while len(workers := children(parent.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # so that they have begun
        parent.kill()
    while any(_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) == 2
    assert not any(_alive(worker) for worker in workers)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "spawn_main" in _said(Path("/proc", str(pid)))
    except OSError:
        return False
