"""What a person sees while an update runs: a live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

# What is shown comes from users: names, messages, reasons. Nothing in it is markup.
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
out = Console(**_PLAIN, width=None if sys.stdout.isatty() else 100)
err = Console(**_PLAIN, stderr=True, width=None if sys.stderr.isatty() else 100)

EVERY_SECONDS = 10.0
_YEAR = timedelta(days=365.25).total_seconds()


class Live:
    """Listens to an update and shows it: tokens per second, losses on new and old text, time left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.total: int | None = None
        self.began = self.said = time.monotonic()
        self.first: tuple[float, float, float] | None = None
        self.held = ""
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def stage(self, name: str) -> None:
        self.close()
        if name == "training":
            self.first = None
            if err.is_terminal and not self.quiet:
                columns: tuple[Any, ...] = (
                    TextColumn("{task.description}", markup=False),
                    BarColumn(24),
                    TextColumn("{task.fields[said]}", markup=False),
                )
                self.bar = Progress(*columns, console=err, transient=True)
                self.bar.start()
                self.task = self.bar.add_task("training", total=self.total, said="")
        elif not self.quiet:
            err.print(f"{name} …", style="dim")

    def plan(self, steps: int, seconds: float | None) -> None:
        self.total = steps
        if seconds is not None:
            self.notice(f"time       about {span(max(1, seconds))} of training, by a trial of one batch")

    def record(self, record: Mapping[str, float]) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, record["tokens"], record["step"])
        for side in ("new", "old"):
            if f"held/{side}" in record:
                self.held = "  ".join(f"{s} {record[f'held/{s}']:.3f}" for s in ("new", "old") if f"held/{s}" in record)
        spent = now - self.first[0]
        speed = (record["tokens"] - self.first[1]) / spent if spent else 0.0
        steps = record["step"] - self.first[2]
        left = spent / steps * (self.total - record["step"]) if steps and self.total else None
        said = f"step {record['step']:.0f}  {speed:,.0f} tokens/s"
        said += f"  held-out loss {self.held}" if self.held else ""
        said += f"  mean reward {record['reward']:.2f}" if "reward" in record else ""
        if left is not None:
            said += f"  {span(left)} left"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=record["step"], said=said)
        elif now - self.said >= EVERY_SECONDS and self.total and not self.quiet:
            err.print(f"  {said}")
            self.said = now

    def notice(self, text: str) -> None:
        if not self.quiet:
            err.print(text, soft_wrap=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def span(seconds: float) -> str:
    """A time to wait, in years where clocks would be absurd."""
    if seconds > 3 * _YEAR:
        return f"{seconds / _YEAR:,.0f} years"
    return str(timedelta(seconds=round(seconds)))
