"""`eval`, `compare`, `check`, `promote`, `report`: what an update is worth."""

from __future__ import annotations

import json as as_json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from regraft.cli.live import Live, err, out
from regraft.cli.tables import plain_table
from regraft.core.errors import RegraftError, nearest
from regraft.core.memory import one_clear_memory_error
from regraft.core.names import shown
from regraft.store import Line, Version

if TYPE_CHECKING:
    from regraft.evidence.compare import Change, Comparison
    from regraft.evidence.gate import Policy, Verdict
    from regraft.recipes.readings import Sides, Suites

FORMATS = ("html", "md", "json")
_COLOURS = {"better": "green", "worse": "red", "accept": "green", "reject": "red", "cannot tell": "yellow"}


def show_comparison(line: Line, version: Version) -> None:
    """Before and after of one update by its own readings, and what the gate says of it."""
    from regraft.evidence.compare import compare
    from regraft.evidence.gate import check
    from regraft.recipes.readings import of_update
    from regraft.report.words import gate_line

    sides = of_update(line, version)
    if not sides.before or not sides.after:
        err.print("nothing was measured: the gate has nothing to judge")
        return
    _print_table(compare(sides.before, sides.after))
    out.print(gate_line(check(sides.before, sides.after)))


def evaluate(line: Path, versions: list[str], suites: Suites, json: bool, device: str, trust_remote_code: bool) -> None:
    from regraft.evidence.compare import mean_interval
    from regraft.recipes.readings import measure
    from regraft.recipes.update import chosen_device
    from regraft.report import words

    if not suites.files and suites.tasks is None:
        raise RegraftError("nothing to measure on", do="Name questions or documents with --suite, or --tasks")
    opened, device = Line.open(line), chosen_device(device)
    table = plain_table("version", "suite", "items", "mean", "95% interval", "unit")
    rows = []
    chosen = {v.id: v for v in map(opened.version, versions)}.values()
    with opened.writing(), one_clear_memory_error("Measure on another device, or a suite with shorter texts"):
        measured = [
            (version, reading)
            for version in chosen
            for reading in measure(
                opened, version, suites, device=device, trust_remote_code=trust_remote_code, listener=Live()
            )
        ]
    for version, reading in measured:
        ends = mean_interval(reading)
        rows.append(
            {
                "version": version.id,
                "suite": reading.suite,
                "items": len(reading),
                "mean": reading.mean,
                "interval": ends,
                "unit": reading.unit,
                "fingerprint": reading.fingerprint,
            }
        )
        span = " to ".join(words.value(end, reading.unit) for end in ends) if ends else "unknown"
        mean = words.value(reading.mean, reading.unit)
        table.add_row(version.name, reading.suite, str(len(reading)), mean, span, reading.unit)
    if json:
        _print_json(rows)
    else:
        out.print(table)


def compare(line: Path, a: str, b: str, alpha: float, json: bool, device: str, trust_remote_code: bool) -> None:
    from regraft.evidence.compare import compare

    if not 0 < alpha < 1:
        raise RegraftError(f"{alpha:g} is not a rate of error", where="--alpha", do="Give a rate above 0, below 1")
    opened = Line.open(line)
    before, after = opened.version(a), opened.version(b)
    sides = _sides(opened, before, after, device, trust_remote_code)
    compared = compare(sides.before, sides.after, alpha=alpha)
    if json:
        _print_json({"before": before.id, "after": after.id, "measured_now": sides.measured, **compared.to_json()})
        return
    out.print(f"{_named(before)}  →  {_named(after)}")
    _print_table(compared)


def check(line: Path, a: str, b: str, policy: Path | None, json: bool, device: str, trust_remote_code: bool) -> None:
    opened = Line.open(line)
    before, after = opened.version(a), opened.version(b)
    verdict = _verdict(opened, before, after, _policy(policy), device, trust_remote_code)
    if json:
        _print_json({"before": before.id, "after": after.id, **verdict.to_json()})
    else:
        out.print(f"{_named(before)}  →  {_named(after)}")
        _print_gate(verdict)
    raise typer.Exit(verdict.exit_code)


def promote(
    line: Path,
    version: str,
    name: str,
    policy: Path | None,
    anyway: bool,
    device: str,
    trust_remote_code: bool,
) -> None:
    opened = Line.open(line)
    judged_by = _policy(policy)
    with opened.writing():
        candidate = opened.version(version)
        opened.check_pointer(name)
        target = opened.pointers().get(name)
        if target is None and not candidate.parents:
            opened.point(name, candidate, "the first: there was nothing to judge it against")
            out.print(f"{name} → {_named(candidate)}: the first, judged against nothing")
            return
        current = opened.version(target or candidate.parents[0])
        if current.id == candidate.id:
            out.print(f"{name} names {_named(candidate)} already")
            return
        verdict = _verdict(opened, current, candidate, judged_by, device, trust_remote_code)
        _print_gate(verdict)
        said = f"the gate says {verdict.decision} against {current.name}: {verdict.reasons[0]}"
        if verdict.exit_code and not anyway:
            stays = f"{name} stays at {_named(current)}" if target else f"{name} is not set"
            out.print(stays)
            raise typer.Exit(verdict.exit_code)
        opened.point(name, candidate, f"anyway, though {said}" if verdict.exit_code else said)
    out.print(f"{name} → {_named(candidate)}, from {current.name}")


def report(line: Path, version: str, format: str, output: Path | None, policy: Path | None = None) -> None:
    if format not in FORMATS:
        raise RegraftError(f"no format {format!r}{nearest(format, FORMATS)}", where="--format", do="html, md or json")
    from regraft.report.facts import gather
    from regraft.report.markdown import markdown
    from regraft.report.page import page
    from regraft.store.files import one_clear_error, replace_whole

    opened = Line.open(line)
    facts = gather(opened, opened.version(version), _policy(policy))
    if format == "json":
        text = as_json.dumps(facts.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = page(facts) if format == "html" else markdown(facts)
    if output is None and format != "html":
        typer.echo(text, nl=False)
        return
    place = output or Path(f"{facts.line}-{facts.version.name}.html")
    if place.exists() and not place.is_file():
        raise RegraftError("cannot write: it is no regular file", where=place, do="Name another with -o")
    with one_clear_error(place):
        replace_whole(Path(os.path.realpath(place)), [text.encode()])
    typer.echo(shown(place))


def _policy(path: Path | None) -> Policy:
    from regraft.evidence.gate import Policy

    return Policy() if path is None else Policy.load(path)


def _sides(line: Line, a: Version, b: Version, device: str, trust_remote_code: bool) -> Sides:
    from regraft.recipes.readings import both
    from regraft.recipes.update import chosen_device

    sides = both(line, a, b, device=chosen_device(device), trust_remote_code=trust_remote_code, listener=Live())
    if not sides.before and not sides.after:
        raise RegraftError(
            f"neither {a.name} nor {b.name} was measured on anything",
            where=line.path,
            do="Compare with a version that an update made, or measure both with `regraft eval`",
        )
    return sides


def _verdict(line: Line, a: Version, b: Version, policy: Policy, device: str, trust_remote_code: bool) -> Verdict:
    from regraft.evidence.gate import check

    sides = _sides(line, a, b, device, trust_remote_code)
    return check(sides.before, sides.after, policy)


def _named(version: Version) -> str:
    return f"{version.name} {version.id[:12]} {version.message}"


def _print_json(document: object) -> None:
    typer.echo(as_json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def _print_gate(verdict: Verdict) -> None:
    rules = Table.grid(padding=(0, 2))
    for rule in verdict.rules:
        rules.add_row(_coloured(str(rule.decision)), Text(f"{rule.suite}: {rule.reason}"))
    out.print(rules)
    if not verdict.rules:
        out.print(verdict.reasons[0])
    if verdict.unjudged:
        out.print(f"no limit is set for {', '.join(verdict.unjudged)}")
    out.print(Text.assemble("gate: ", _coloured(str(verdict.decision), "bold")))


def _print_table(compared: Comparison) -> None:
    """One row a suite with its skills under it, within 100 columns."""
    from regraft.report import words

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("suite", overflow="fold", max_width=22)
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(f"{100 * (1 - compared.alpha):g}% interval", no_wrap=True)
    table.add_column("flips", no_wrap=True)
    table.add_column("could see", justify="right", no_wrap=True)
    table.add_column("finding")
    for row in _with_skills(compared.suites, compared.skills):
        title = row.suite if row.tag is None else f"  {row.tag}"
        table.add_row(
            Text(f"{title} ({row.n})", style="" if row.tag is None else "dim"),
            words.value(row.before, row.unit),
            words.value(row.after, row.unit),
            words.signed(row.change, row.unit),
            words.interval(row, row.unit),
            words.flips(row),
            words.smallest(row),
            _coloured(str(row.verdict)),
        )
    out.print(table)
    for row in compared.suites:
        for note in words.notes(row):
            out.print(f"{row.suite}: {note}")
    if any(c.verdict == "no change seen" and c.interval and c.interval[0] * c.interval[1] > 0 for c in compared.suites):
        out.print("an interval is of its suite alone; a finding holds for all suites together")
    for suite, why in compared.missing.items():
        out.print(f"{suite}: {why}")


def _with_skills(suites: Iterable[Change], skills: Iterable[Change]) -> Iterable[Change]:
    found = list(skills)
    for suite in suites:
        yield suite
        yield from (skill for skill in found if skill.suite == suite.suite)


def _coloured(text: str, weight: str = "") -> Text:
    return Text(text, style=f"{weight} {_COLOURS.get(text, '')}".strip())
