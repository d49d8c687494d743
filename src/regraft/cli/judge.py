"""`compare`, `check`, `promote`, `report`: what an update is worth."""

from __future__ import annotations

from pathlib import Path

from regraft.store import Line, Version


def show_comparison(line: Line, version: Version) -> None:
    pass
