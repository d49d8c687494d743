"""Programs that a model wrote can do no harm, and come to an end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from regraft.core.errors import RegraftError
from regraft.numerics.sandbox import Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=1.0, memory=256, output=1000), jobs=2) as made:
        yield made


def test_programs_end_in_their_order(sandbox: Sandbox) -> None:
    found = sandbox.run([f"print({n})\nassert {n} % 3" for n in range(7)])
    assert [ran.printed for ran in found] == [f"{n}\n" for n in range(7)]
    assert [ran.why for ran in found] == ["" if n % 3 else "AssertionError: " for n in range(7)]
    assert sandbox.run([]) == []


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ended itself before its last line"),
        ("while True: pass", "ran longer than 1 s"),
        ("import time; time.sleep(60)", "ran longer than 1 s"),
        ("import os\nfor fd in range(20):\n  try: os.close(fd)\n  except OSError: pass\nwhile True: pass", "longer"),
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import os; os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
        ("import socket; socket.socket()", "PermissionError"),
        ("import os; os.kill(os.getppid(), 9)", "PermissionError"),
        ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
        ("__import__('os').execv('/bin/true', ['true'])", "PermissionError"),
        ("class E(Exception):\n  def __str__(self): raise E\nraise E", "did not begin"),
        ("\ud800", "UnicodeEncodeError"),
    ],
)
def test_a_program_that_does_wrong(sandbox: Sandbox, program: str, why: str) -> None:
    assert why in sandbox.run([program])[0].why
    assert sandbox.run(["assert 1 + 1 == 2"])[0].why == ""


def test_files_are_not_changed(sandbox: Sandbox, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("as it was")
    programs = [
        f"open({str(kept)!r}, 'w')",
        f"open({str(kept)!r}, 'r+')",
        f"open({str(tmp_path / 'new')!r}, 'x')",
        *(
            f"import os; os.{call}"
            for call in (
                f"remove({str(kept)!r})",
                f"rename({str(kept)!r}, {str(tmp_path / 'b')!r})",
                f"truncate({str(kept)!r}, 0)",
                f"chmod({str(kept)!r}, 0)",
                f"mkdir({str(tmp_path / 'c')!r})",
                f"symlink('a', {str(tmp_path / 'd')!r})",
                f"utime({str(kept)!r})",
            )
        ),
    ]
    assert all("PermissionError" in ran.why for ran in sandbox.run(programs))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "as it was"
    assert sandbox.run([f"print(open({str(kept)!r}).read())"])[0].printed == "as it was\n"


def test_what_it_prints_is_cut(sandbox: Sandbox) -> None:
    [ran] = sandbox.run(["for _ in range(300): print('x' * 100_000)\nprint('the end')"])
    assert ran.why == ""
    assert len(ran.printed) == 1000
    assert ran.printed.endswith("the end\n")


def test_programs_run_side_by_side(sandbox: Sandbox) -> None:
    found = sandbox.run(["import time; time.sleep(0.2)"] * 2)
    assert [ran.why for ran in found] == [""] * 2
    assert sorted(worker.number for worker in sandbox._workers) == [0, 1]


def test_one_program_leaves_nothing_to_the_next(sandbox: Sandbox) -> None:
    found = sandbox.run(["import math; math.pi = 3\nx = 1", "import math; assert math.pi > 3", "x"] * 2)
    assert [ran.why for ran in found] == ["", "", "NameError: name 'x' is not defined"] * 2


def test_a_sandbox_that_is_ended_comes_back() -> None:
    with Sandbox() as made:
        os.kill(made._workers[0].process.pid, signal.SIGKILL)
        made._workers[0].process.wait()
        assert made.run(["assert True"])[0].why == ""


@pytest.mark.parametrize("knobs", [{"seconds": 0.0}, {"memory": 0}, {"output": -1}])
def test_limits_that_are_none(knobs: dict[str, float]) -> None:
    with pytest.raises(RegraftError):
        Limits(**knobs)  # type: ignore[arg-type]
