"""Programs that a model wrote, run where they can do no harm."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from regraft.core.errors import RegraftError

_SCRIPT = Path(__file__).with_name("confined.py")


class Ran(NamedTuple):
    """What came of a program: `why` it did not run to its end, or nothing; and the end of what it `printed`."""

    why: str
    printed: str


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        seconds: of the clock.
        memory: MiB of addresses.
        output: characters that are kept of what it prints; the last ones.
    """

    seconds: float = 5.0
    memory: int = 512
    output: int = 10_000

    def __post_init__(self) -> None:
        for name in ("seconds", "memory"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RegraftError(f"{name} is {getattr(self, name)}; it must be over 0")
        if self.output < 0:
            raise RegraftError(f"output is {self.output}; it must be 0 or more")


class Sandbox:
    """Runs Python programs, each in a process of its own that may compute, read files and print, and nothing else: no
    network, no other process or thread, no file made or changed, no more time and memory than `limits`.

    A program is right when it runs to its last line. It could look for the checker in its own process and answer in its
    place: this keeps a model's mistakes in, and not somebody who wants out.

    Args:
        jobs: how many programs run at once.

    Raises RegraftError where the system does not let a process give up its rights.
    """

    def __init__(self, limits: Limits | None = None, *, jobs: int = 1) -> None:
        if jobs < 1:
            raise RegraftError(f"jobs is {jobs}; it must be at least 1")
        self.limits = limits or Limits()
        self._workers = [_Worker() for _ in range(jobs)]
        if why := self.run([""])[0].why:
            self.close()
            raise RegraftError(f"no program can be run here: {why}", do="Run on Linux, or check answers another way")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, programs: Sequence[str]) -> list[Ran]:
        """What came of each program, in their order."""
        found = [Ran("was not run", "")] * len(programs)
        waiting = list(enumerate(programs))[::-1]
        with selectors.DefaultSelector() as busy:
            for worker in self._workers[: len(programs)]:
                self._give(worker, *waiting.pop(), busy)
            while busy.get_map():
                for key, _ in busy.select():
                    worker = key.data
                    busy.unregister(key.fileobj)
                    found[worker.number] = worker.take()
                    if waiting:
                        self._give(worker, *waiting.pop(), busy)
        return found

    def _give(self, worker: _Worker, number: int, program: str, busy: selectors.BaseSelector) -> None:
        limits = self.limits
        worker.give(
            number,
            {
                "program": program,
                "seconds": limits.seconds,
                "memory": limits.memory << 20,
                "output": limits.output,
            },
        )
        busy.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]

    def close(self) -> None:
        """Ends the processes."""
        while self._workers:
            self._workers.pop().end()


class _Worker:
    """A process that runs one program at a time; another takes its place when it is ended."""

    def __init__(self) -> None:
        self.number = -1
        self._begin()

    def _begin(self) -> None:
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TZ")}
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | quiet,
            cwd="/",
        )

    def give(self, number: int, request: dict[str, object]) -> None:
        self.number = number
        if self.process.poll() is not None:
            self.end()
            self._begin()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def take(self) -> Ran:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            self.end()
            self._begin()
            return Ran("its sandbox was ended from outside", "")
        said = json.loads(line)
        return Ran(said["why"], said["printed"])

    def end(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()
