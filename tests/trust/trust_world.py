"""What the tests of trust share: a tiny model, texts, a line, and regraft run here or in a process to be killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from regraft.cli import main, runs
from regraft.store import Line

OLD = "the cat sat on a mat and saw one small bird in the old green tree by water"
NEW = "def return import class for while self print lambda yield None True"


def rows(words: str, count: int, seed: int) -> str:
    """So many JSONL rows of random prose in these words."""
    dice = random.Random(seed)
    texts = (" ".join(dice.choices(words.split(), k=dice.randrange(20, 60))) for _ in range(count))
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def make_world(folder: Path) -> Path:
    """model/, old.jsonl, new.jsonl and line/ (the model, adopted) in `folder`."""
    from regraft.recipes.adoption import adopt
    from regraft.worlds.llama import bpe, llama, save

    (folder / "old.jsonl").write_text(rows(OLD, 60, 0))
    (folder / "new.jsonl").write_text(rows(NEW, 60, 1))
    save(llama(bpe([OLD, NEW], 290), width=16, depth=2, heads=2, context=32), folder / "model")
    adopt(str(folder / "model"), folder / "line")
    return folder


def learn(world: Path, line: Path, *more: str) -> list[str]:
    """The command of the update that the tests disturb."""
    texts = ["--data", str(world / "new.jsonl"), "--keep", str(world / "old.jsonl")]
    knobs = ("tokens=4000", "batch_tokens=128", "monitor_every=8")
    return ["learn", str(line), *texts, *(word for knob in knobs for word in ("--set", knob)), *more]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, minus the number of the signal that ended it; what it wrote; its seconds."""

    code: int
    text: str
    seconds: float = 0.0

    @property
    def error(self) -> str:
        """The one line that the command ended with."""
        assert "Traceback" not in self.text, self.text
        lines = [line for line in self.text.splitlines() if line.startswith("regraft: ")]
        assert len(lines) == 1, self.text
        return lines[0]


class Server:
    """A process of `fork_server.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **single},
        )
        assert self._answer() == "ready"

    def run(
        self,
        arguments: list[str],
        *,
        cache: Path,
        kill_after: float | None = None,
        at: tuple[str, str, int] | None = None,
        number: signal.Signals = signal.SIGKILL,
        largest_file: int | None = None,
        plain_user: bool = False,
    ) -> Ended:
        """Runs a command of regraft in a fork.

        Args:
            cache: the folder of tokenised texts.
            kill_after: seconds after which the signal `number` is sent.
            at: (event, fragment, n): the fault comes at the n-th audit event of Python on a path with the fragment.
            largest_file: bytes that no file may exceed from then on, as on a full disk: the fault instead of a signal.
            plain_user: without the rights that root has over others' files.
        """
        order = {
            "arguments": arguments,
            "cache": str(cache),
            "kill_after": kill_after,
            "at": at,
            "signal": int(number),
            "largest_file": largest_file,
            "plain_user": plain_user,
            "folder": str(self.folder),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    found = Server(folder)
    try:
        yield found
    finally:
        found.close()


def copy_line(world: Path, place: Path) -> Path:
    """The adopted line, to be disturbed."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(world / "line", place)
    return place


def whole(line: Path) -> bool:
    """Whether every stored file, and every file of an unfinished run, is what was written."""
    opened = Line.open(line)
    report = opened.verify()
    assert report.damaged == []
    assert runs.damage(opened) == []
    return True


def head(line: Path) -> str:
    return Line.open(line).version("head").id


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock, and every folder of a run."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}
    return found | {f"runs/{p.name}": b"" for p in (folder / "runs").iterdir()}


class Shell:
    """regraft in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object) -> Ended:
        self.capfd.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["regraft", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        said = self.capfd.readouterr()
        return Ended(code, said.out + said.err)
