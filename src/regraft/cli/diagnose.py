"""`diagnose`: which skills a model lacks, and what would repair each."""

from __future__ import annotations

import json as as_json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from regraft.cli.live import EVERY_SECONDS, err, out, span
from regraft.cli.tables import plain_table
from regraft.core.errors import RegraftError
from regraft.core.memory import one_clear_memory_error
from regraft.store import Line

if TYPE_CHECKING:
    from regraft.models.causal import CausalLM

REPAIR = {
    "known": ("green", "none", "right nearly always"),
    "reachable": ("yellow", "reinforcement", "right now and then, so that it can be found by trying"),
    "missing": ("red", "demonstrations", "hardly ever right, so that it must be shown"),
}
_BAR = 20


@dataclass(frozen=True)
class Asked:
    """What `diagnose` was asked for."""

    target: str
    items: Path
    version: str = "head"
    by: str = "exact"
    marker: str | None = None
    copies: int = 8
    tokens: int | None = None
    temperature: float = 1.0
    stop: tuple[str, ...] = ()
    chat: bool = False
    seed: int = 0
    jobs: int = 1
    skip_bad: bool = False
    device: str = "auto"
    trust_remote_code: bool = False


def diagnose(asked: Asked, *, json: bool) -> None:
    from regraft.evidence.items import Items
    from regraft.recipes.answered import Answering
    from regraft.recipes.diagnosis import diagnose
    from regraft.recipes.update import chosen_device

    items = Items.read(asked.items, skip_bad=asked.skip_bad)
    how = Answering.of(
        asked.by,
        marker=asked.marker,
        tokens=asked.tokens,
        copies=asked.copies,
        temperature=asked.temperature,
        stop=asked.stop,
        chat=asked.chat,
    )
    device = chosen_device(asked.device)
    model = _model(asked)
    model.module.to(device)
    with one_clear_memory_error("Give fewer --answer-tokens"):
        found, left_out = diagnose(model, items, how, seed=asked.seed, jobs=asked.jobs, on_rows=_Told())
    skipped = {**items.skipped, **left_out}
    if json:
        tables = {name: table for name, table in found.tables.items() if name != "items"}
        print(as_json.dumps({"rate": found.numbers["rate"], **tables, "skipped": skipped}, indent=1))
        return
    _show(found.tables["skills"], asked.copies)
    for why, count in skipped.items():
        err.print(f"skipped    {count} items: {why}")
    for why, count in found.tables["faults"].items():
        err.print(f"checker    {count} answers: {why}")


def _model(asked: Asked) -> CausalLM:
    """The model of a line's version, or of a folder or hub name."""
    from regraft.models.causal import CausalLM
    from regraft.recipes.adoption import local_folder
    from regraft.recipes.update import load_model
    from regraft.store.folder import read_folder

    if Line.is_line(Path(asked.target)):
        line = Line.open(asked.target)
        return load_model(line, line.version(asked.version), trust_remote_code=asked.trust_remote_code)
    if asked.version != "head":
        raise RegraftError("a model folder has no versions", where="--version", do="Leave it out, or name a line")
    folder = local_folder(asked.target, trust_remote_code=asked.trust_remote_code)
    files, tensors = read_folder(folder, trust_remote_code=asked.trust_remote_code)
    contents = {name: path.read_bytes() for name, path in files.items()}
    return CausalLM.from_files(contents, dict(tensors), trust_remote_code=asked.trust_remote_code)


class _Told:
    """Says now and then how many answers are written, and how long the rest will take."""

    def __init__(self) -> None:
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said >= EVERY_SECONDS and done < total:
            self.said = now
            left = (now - self.began) / done * (total - done)
            err.print(f"  {done:,} of {total:,} answers  {span(left)} left")


def _show(skills: Sequence[Mapping[str, Any]], copies: int) -> None:
    table = plain_table("skill", "items", "right", "", "95% interval", f"in {copies} tries", "state", "repair")
    for skill in skills:
        colour, repair, _ = REPAIR[skill["state"]]
        table.add_row(
            skill["skill"],
            str(skill["items"]),
            f"{skill['rate']:.1%}",
            _bar(skill["rate"], skill["reach"]),
            f"{skill['low']:.1%} to {skill['high']:.1%}",
            f"{skill['reach']:.1%}",
            Text(skill["state"], style=colour),
            repair,
        )
    out.print(table)
    present = {skill["state"] for skill in skills}
    for state, (_, _, means) in REPAIR.items():
        if state in present:
            out.print(f"{state:9}  {means}")


def _bar(rate: float, reach: float) -> str:
    """A bar of what is right at once, and lighter what is right in several tries."""
    at_once, in_tries = round(rate * _BAR), round(reach * _BAR)
    return "█" * at_once + "▒" * max(0, in_tries - at_once)
