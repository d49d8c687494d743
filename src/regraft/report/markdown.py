"""A report as Markdown: the facts of the page without its pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape

from regraft.report import captions, words
from regraft.report.facts import Moved, Report


def markdown(report: Report) -> str:
    """The report in GitHub's Markdown; whatever the user named or wrote is shown as text."""
    title = f"# {_text(report.line)} {report.version.name}: {_text(report.version.message)}"
    parts = [title, *_bullets(report.headline), *_plan(report), *_changes(report), *_gate(report), *_curve(report)]
    parts += [*_matrix(report), *_items(report), *_costs(report), *_lineage(report), *_record(report)]
    return "\n\n".join(parts) + "\n"


def _plan(report: Report) -> list[str]:
    return ["## Plan", _table(("what", "why"), report.plan)] if report.plan else []


def _changes(report: Report) -> list[str]:
    if report.compared is None:
        return []
    rows = [
        (
            row.suite if row.tag is None else f"{row.suite}, {row.tag}",
            row.unit,
            str(row.n),
            words.value(row.before, row.unit),
            words.value(row.after, row.unit),
            words.signed(row.change, row.unit),
            words.interval(row, row.unit),
            words.flips(row),
            words.smallest(row),
            str(row.verdict),
            "; ".join(words.notes(row)),
        )
        for row in (*report.compared.suites, *report.compared.skills)
    ]
    interval = f"{100 * (1 - report.compared.alpha):g}% interval"
    head = ("suite", "unit", "items", "before", "after", "change", interval, "flips", "could see", "finding", "notes")
    return ["## What changed", _table(head, rows)]


def _gate(report: Report) -> list[str]:
    if report.verdict is None:
        return []
    return ["## Gate", *_bullets(report.verdict.reasons), *_bullets(_unjudged(report.verdict.unjudged))]


def _unjudged(suites: Sequence[str]) -> list[str]:
    return [f"no limit is set for {', '.join(suites)}"] if suites else []


def _curve(report: Report) -> list[str]:
    dips = words.dips(report.curve.dips) if report.curve else ()
    return ["## Held-out loss while it learned", *_bullets(dips)] if dips else []


def _matrix(report: Report) -> list[str]:
    if not report.matrix.rows:
        return []
    rows = [
        (row.suite, row.unit, *("" if mean is None else words.value(mean, row.unit) for mean in row.means))
        for row in report.matrix.rows
    ]
    return ["## Abilities by version", _table(("suite", "unit", *report.matrix.versions), rows)]


def _items(report: Report) -> list[str]:
    parts = [part for moved in report.moved for part in _moved(moved)]
    return ["## Items that moved", *parts] if parts else []


def _moved(moved: Moved) -> list[str]:
    parts = []
    for heading, items in ((captions.worse(moved), moved.worse), (captions.better(moved), moved.better)):
        if items:
            rows = [
                (i.text or i.id, words.value(i.before, moved.unit), words.value(i.after, moved.unit)) for i in items
            ]
            parts += [f"### {_text(moved.suite)}: {heading}", _table(("item", "before", "after"), rows)]
    return parts


def _costs(report: Report) -> list[str]:
    used = [(use.role, ", ".join(use.files), f"{use.documents:,} of {use.of:,}") for use in report.used]
    parts = ["## Costs", _table(("what", "how much"), captions.costs(report.costs))]
    if used:
        parts += ["## Texts that touched it", _table(("role", "files", "documents"), used)]
    if report.skipped:
        parts += ["## Skipped", _table(("rows", "why"), [(str(n), why) for why, n in report.skipped.items()])]
    return parts


def _lineage(report: Report) -> list[str]:
    rows = [(s.name, s.id[:12], s.message, s.time, ", ".join(s.pointers)) for s in reversed(report.lineage)]
    return ["## Lineage", _table(("version", "id", "message", "committed", "pointers"), rows)]


def _record(report: Report) -> list[str]:
    fence = "```"
    text = json.dumps(report.record, indent=1, ensure_ascii=False)
    while fence in text:
        fence += "`"
    return ["## Record", f"{fence}json\n{text}\n{fence}"]


def _bullets(lines: Iterable[str]) -> list[str]:
    found = [f"- {_text(line)}" for line in lines]
    return ["\n".join(found)] if found else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(said: str) -> str:
    """Text that no Markdown reader takes for markup."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", escape(" ".join(said.split()), quote=False))
