"""Runs every benchmark and writes docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from benchmarks import house, loops, skills, streams

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench`. Each line is a ratio of two contestants that took turns in one run: the median of the rounds,
and the middle half of them. Below 1 we are faster. torch {torch}, Python {python}, {threads} threads.
Methods for streams of tasks are compared with Avalanche's on pages of their own: [time](benchmarks-avalanche.md) and
[accuracy](accuracy-avalanche.md). Steps on answers are compared with [TRL's](benchmarks-trl.md).

| what | against | ours / theirs | middle half | wanted |
|---|---|---|---|---|
"""


def main() -> None:
    torch.set_num_threads(1)
    rows = [r.row for r in (*loops.digits(), *streams.streams(), *skills.rollouts())]
    torch.set_num_threads(2)
    rows += [r.row for r in (*loops.language(), *skills.preferences())]
    peak, grown, cpu = house.memory(), house.disk(), house.start()
    rows.append(f"| peak memory of a plain update | bare loop | {peak:.3f} | | ≤ 1.1 |")
    house_rows = [
        "",
        "| what | measured | wanted |",
        "|---|---|---|",
        f"| disk of a version in which 1% of the tensors changed | {grown:.1%} more | ≤ 3% |",
        *(f"| `regraft {name}`, CPU seconds | {seconds:.2f} | ≤ 0.3 |" for name, seconds in cpu.items()),
    ]
    head = HEAD.format(
        torch=torch.__version__, python=platform.python_version(), threads="1 (digits, streams, rollouts) and 2"
    )
    PAGE.write_text(head + "\n".join([*rows, *house_rows]) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
