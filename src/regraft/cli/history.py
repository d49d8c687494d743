"""`log`, `show`, `rollback`, `verify`, `gc`, `export`: what a line holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from regraft.cli import runs
from regraft.cli.live import err, out
from regraft.cli.tables import plain_table
from regraft.core.errors import DamagedStore, RegraftError
from regraft.core.names import utf8_text
from regraft.store import Line, Version

_HEX = re.compile(r"[0-9A-Fa-f]{4,32}")


def log(path: Path, events: bool) -> None:
    line = Line.open(path)
    if events:
        table = plain_table("when", "what", "pointer", "from", "to", "why")
        names = {v.id: v.name for v in line.versions()}
        for e in reversed(line.events()):
            table.add_row(
                _when(e.time), e.what, e.name or "", names.get(e.old or "", ""), names.get(e.new or "", ""), e.why or ""
            )
        out.print(table)
        return
    at: dict[str, list[str]] = {}
    for pointer, target in line.pointers().items():
        at.setdefault(target, []).append(pointer)
    table = plain_table("version", "id", "when", "from", "pointers", "what")
    names = {v.id: v.name for v in line.versions()}
    for v in reversed(line.versions()):
        parents = " ".join(names.get(p, p[:8]) for p in v.parents)
        table.add_row(v.name, v.id[:12], _when(v.time), parents, " ".join(sorted(at.get(v.id, []))), v.message)
    out.print(table)
    for run in runs.unfinished(line):
        out.print(f"unfinished: {run} (regraft learn {path} --resume)", soft_wrap=True)


def show(path: Path, ref: str, rows: int | None, row: str | None) -> None:
    line = Line.open(path)
    if row is not None:
        _touched_by(line, row)
        return
    version = line.version(ref)
    if rows is not None:
        _rows(line, version, rows)
        return
    out.print(f"{version.name}  {version.id}")
    out.print(f"{version.message}  ({_when(version.time)})\n")
    evidence: Any = version.evidence or {}
    for why in evidence.get("why", []):
        out.print(f"  {why}")
    table = plain_table("bundle", "tensors", "MiB")
    for name, refs in sorted(version.bundles.items()):
        if not name.startswith(("evidence/", "suite/")):
            table.add_row(name, str(len(refs)), f"{sum(r.bytes for r in refs.values()) / 2**20:.1f}")
    out.print(table)
    _measured(line, version)
    out.print(f"own on disk: {line.disk().own.get(version.id, 0) / 2**20:.1f} MiB")


def _measured(line: Line, version: Version) -> None:
    """What a version was measured on, in its own update and later."""
    evidence: Any = version.evidence or {}
    found = [(header, "in its update") for header in evidence.get("after", {}).values()]
    notes = [line.json(digest) for name, digest in line.notes(version).items() if name.startswith("reading/")]
    found += [(note, "later") for note in notes]
    if not found:
        out.print("measured on nothing: see `regraft eval`")
        return
    table = plain_table("suite", "items", "mean", "unit", "measured")
    for header, when in found:
        table.add_row(header["suite"], str(len(header["ids"])), f"{header['mean']:.4f}", header["unit"], when)
    out.print(table)


def _rows(line: Line, version: Version, limit: int) -> None:
    names = {v.id: v.name for v in line.versions()}
    table = plain_table("row", "file", "line", "role", "since")
    for use in line.rows_of(version, limit=limit):
        table.add_row(use.row, use.file, str(use.line), use.role, names.get(use.version, use.version[:8]))
    out.print(table)


def _touched_by(line: Line, row: str) -> None:
    names = {v.id: v.name for v in line.versions()}
    touches = line.versions_of(row) if _HEX.fullmatch(row) else []
    touches = touches or [touch for each in _called(line, row) for touch in line.versions_of(each)]
    if not touches:
        out.print(f"no version was touched by a row {row}")
        return
    table = plain_table("version", "row", "file", "line", "role", "how")
    for t in sorted(touches, key=lambda t: (names.get(t.version, ""), t.role)):
        how = "through an ancestor" if t.inherited else "directly"
        table.add_row(names.get(t.version, t.version[:8]), t.row, t.file, str(t.line), t.role, how)
    out.print(table)


def _called(line: Line, row: str) -> list[str]:
    """The ids of the rows whose files call them so."""
    import numpy as np

    from regraft.data.corpus import Corpus

    corpora = [Corpus.open(line.corpus(digest), line.file, verify=False) for digest in line.corpora()]
    named = [i for c in corpora for i in c.select(np.array([name == row for name in c.names], dtype=bool)).row_ids]
    if not named and not _HEX.fullmatch(row):
        do = "Give 4 to 32 hexadecimal digits of its id, or its own `id`"
        raise RegraftError(f"no row of this line is called {row!r}", where=line.path, do=do)
    return sorted(set(named))


def rollback(path: Path, to: str, name: str, why: str) -> None:
    utf8_text(why, "--why")
    line = Line.open(path)
    version = line.rollback(to, why) if name == "head" else line.point(name, to, why or "rolled back")
    out.print(f"{name} is at {version.name} {version.id[:12]}  {version.message}")


def verify(path: Path) -> None:
    line = Line.open(path)
    report = line.verify()
    for damage in report.damaged:
        names = {v.id: v.name for v in line.versions()}
        hit = ", ".join(names.get(v, v[:12]) for v in damage.versions) or "no version"
        err.print(f"damaged: {damage.path}: {damage.what} (touches {hit})", soft_wrap=True)
    unfinished = runs.damage(line)
    for error in unfinished:
        err.print(f"damaged: {error.where}: {error.what} (touches an unfinished run)", soft_wrap=True)
    for left in report.leftover:
        out.print(f"left over: {left}", soft_wrap=True)
    damaged = len(report.damaged) + len(unfinished)
    out.print(f"{report.checked} files checked, {damaged} damaged, {len(report.leftover)} left over")
    if damaged:
        raise typer.Exit(DamagedStore.exit_code)


def gc(path: Path, drop: list[str], dry_run: bool) -> None:
    line = Line.open(path)
    with line.writing():
        condemned: list[str] = []
        for version in map(line.version, drop):
            if dry_run:
                line.check_drop(version, but=condemned)
                condemned.append(version.id)
                out.print(f"would forget {version.name} {version.message}")
            else:
                line.drop(version)
                out.print(f"forgot {version.name} {version.message}")
        report = line.gc(dry_run=dry_run, dropped=condemned)
    verb = "would remove" if dry_run else "removed"
    out.print(
        f"{verb} {len(report.removed)} files and folders, {report.bytes / 2**20:.1f} MiB; {report.kept} files stay"
    )


def export(path: Path, folder: Path, ref: str, overwrite: bool) -> None:
    from regraft.store.export import export

    line = Line.open(path)
    version = line.version(ref)
    target = export(line, version, folder, overwrite=overwrite)
    out.print(f"{target}: {version.name} {version.id[:12]} as a Hugging Face folder")


def _when(time: str) -> str:
    return time[:16].replace("T", " ")
