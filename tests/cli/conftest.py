"""The command line in the test's own process, on a copy of what a module made once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft import cli

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a copy of the folder `made`; it must end with `code`. What it said: out, err."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))

    def command(*words: str, code: int = 0) -> tuple[str, str]:
        from regraft.cli import live

        for console in (live.out, live.err):
            monkeypatch.setattr(console, "_file", None)
            monkeypatch.setattr(console, "_width", 200)
        monkeypatch.setattr(sys, "argv", ["regraft", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        assert left.value.code == code, out + err
        return out, err

    return command
