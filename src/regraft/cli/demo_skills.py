"""`regraft demo skills`: a model with planted gaps, the map that finds them, and three repairs at equal compute."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.cli.live import err, out
from regraft.cli.tables import plain_table
from regraft.cli.updates import Request, Skills, run
from regraft.core.errors import RegraftError
from regraft.store import Line

EACH, STEPS, BATCH, TOKENS, RATE = 300, 500, 128, 5, 1e-3


@dataclass(frozen=True)
class Arm:
    """A way to repair: what it is for people, and the repair."""

    says: str
    repair: Mapping[str, Any]


ARMS = {
    "everything": Arm("imitate all demonstrations", {"imitation": {"which": "all"}}),
    "targeted": Arm("imitate those of failing skills", {"imitation": {"which": "failing"}}),
    "diagnosed": Arm("reinforce; show what that cannot reach", {"diagnosed": {}}),
}


def demo_skills(folder: Path, seed: int) -> None:
    if folder.exists():
        raise RegraftError("the demo's folder is there already", where=folder, do="Remove it, or name another one")
    began = time.monotonic()
    line = _line(folder, seed)
    err.print("\nWhich skills fail, and how:")
    _map(line, folder)
    err.print(f"\nThree repairs, {STEPS} updates each, from the same model.")
    for name, arm in ARMS.items():
        err.print(f"{name}: {arm.says}", style="bold")
        request = Request(
            target=str(line.path),
            data=[str(folder / "shown.jsonl")],
            knobs={"repair": dict(arm.repair), "steps": STEPS, "batch": BATCH, "lr": RATE, "seed": seed},
            base="gaps",
            message=f"{name}: {arm.says}",
            unprotected=True,
            skills=Skills(folder / "items.jsonl", tokens=TOKENS),
        )
        if (version := run(line, request, quiet=True)) is not None:
            line.point(name, version)
    line.rollback("diagnosed", "the demo's choice")
    _table(line)
    _close(line, folder, time.monotonic() - began)


def _line(folder: Path, seed: int) -> Line:
    """A small Llama that learned arithmetic with gaps, questions of all skills with demonstrations, and its line."""
    from regraft.recipes.adoption import adopt
    from regraft.worlds import llama, operations

    err.print("A small Llama learns eight operations on digits: four well, two with a wrong habit, two not at all.")
    model = operations.base(seed)
    folder.mkdir(parents=True)
    llama.save(model, folder / "model")
    rows = [row for skill in operations.OPERATIONS for row in operations.items(skill, EACH, seed + EACH)]
    shown = [{"prompt": row["prompt"], "completion": row["answer"]} for row in rows]
    for name, found in (("items", rows), ("shown", shown)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    line, version = adopt(str(folder / "model"), folder / "line", message="a Llama of 0.1M weights with gaps")
    line.point("gaps", version)
    return line


def _map(line: Line, folder: Path) -> None:
    from regraft.cli.diagnose import Asked, diagnose

    diagnose(Asked(str(line.path), folder / "items.jsonl", copies=4, tokens=TOKENS), json=False)


def _table(line: Line) -> None:
    """What every repair did to every skill, on questions that none of them learned from."""
    from regraft.recipes.readings import own
    from regraft.worlds.operations import HABITS, KNOWN, MISSING

    versions = {name: line.version(name) for name in ARMS}
    readings = {name: own(line, version).after["items"] for name, version in versions.items()}
    before = own(line, versions["diagnosed"]).before["items"]
    table = plain_table("skill", "planted as", "before", *ARMS)
    planted = {**dict.fromkeys(KNOWN, "known"), **dict.fromkeys(HABITS, "a habit"), **dict.fromkeys(MISSING, "missing")}
    for skill, how in planted.items():
        found = [reading.subset(skill).mean for reading in (before, *readings.values())]
        table.add_row(skill, how, *(f"{value:.0%}" for value in found))
    table.add_row("all", "", *(f"{reading.mean:.0%}" for reading in (before, *readings.values())))
    table.add_row("demonstrations used", "", "", *(f"{_used(line, name):,}" for name in ARMS))
    out.print("\nRight answers to held-out questions", style="bold")
    out.print(table)
    for name, arm in ARMS.items():
        out.print(f"{name:<11} {arm.says}")


def _used(line: Line, name: str) -> int:
    from regraft.recipes.texts import touched

    uses = [use for use in line.version(name).corpora if use.role == "new"]
    return sum(int(touched(line, use, line.corpus(use.corpus)["documents"]).sum()) for use in uses)


def _close(line: Line, folder: Path, seconds: float) -> None:
    from regraft.cli.judge import report

    report(line.path, "diagnosed", "html", folder / "report.html", None)
    out.print(f"\n{seconds:.0f} seconds. The line is yours to play with:")
    path, items = line.path, folder / "items.jsonl"
    for command in (
        f"regraft diagnose {path} --items {items} --answer-tokens {TOKENS}",
        f"regraft compare {path} gaps everything",
        f"regraft check {path} gaps targeted",
        f"regraft promote {path} diagnosed",
    ):
        out.print(f"  {command}")
