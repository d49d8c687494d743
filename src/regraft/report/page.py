"""A report as one self-contained HTML page: no network, no script, light and dark, for screens and paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from regraft.evidence.compare import Change
from regraft.evidence.readings import CORRECT
from regraft.recipes.sources import NEW
from regraft.report import captions, draw, words
from regraft.report.facts import Ability, Curve, Matrix, Moved, Report
from regraft.report.moves import Move, moves

MOST_VERSIONS = 10
_WIDE, _NARROW = 880, 350
_SHADES = (0.005, 0.02, 0.1)
"""Cells are shaded in three steps: a change of half a percent, of 2%, of 10% of the value (or as many points)."""


@dataclass(frozen=True)
class Cell:
    """A mean, how it changed, and the class of its colour: b1 to b3 better, w1 to w3 worse."""

    mean: str
    change: str = ""
    shade: str = ""


def page(report: Report) -> str:
    """The report as HTML; whatever the user named or wrote is shown as text."""
    suites = report.compared.suites if report.compared else ()
    return _template().render(
        r=report,
        kind=report.verdict.decision.replace(" ", "-") if report.verdict else "",
        style=Markup(_file("page.css") + draw.STYLE),
        interval=f"{100 * (1 - report.compared.alpha):g}% interval" if report.compared else "",
        numbers=_numbers,
        gate=lambda suite: words.gate(report.verdict, suite) or "no limit" if report.verdict else "",
        notes=[f"{row.suite}: {note}" for row in suites for note in words.notes(row)],
        wide=_figure(report.curve, _WIDE) if report.curve else "",
        narrow=_figure(report.curve, _NARROW) if report.curve else "",
        skills=_skills(report),
        dips=words.dips(report.curve.dips) if report.curve else (),
        matrix=_matrix(report.matrix),
        worse=captions.worse,
        better=captions.better,
        weighed=_weighed,
        said=_said,
        costs=captions.costs(report.costs),
        when=_when,
        knobs=_knobs(report.record),
        calls=json.dumps(report.record.get("calls", []), indent=1, ensure_ascii=False),
    )


def learning_curve(curve: Curve, width: int, *, standalone: bool = False) -> str:
    """Held-out losses and rewards over tokens, and the learning rate in a strip under them."""
    height = 240 if width > _NARROW else 200
    panels = []
    if curve.held:
        held = (
            draw.Series(f"{side} text", *_columns(points), colour=0 if side == NEW else 1)
            for side, points in curve.held.items()
        )
        panels.append(draw.Panel(tuple(held), draw.Axis("held-out loss, nats per token"), height))
    if curve.reward:
        reward = draw.Series("reward", *_columns(curve.reward), colour=2)
        panels.append(draw.Panel((reward,), draw.Axis("mean reward of what it wrote", include=(0.0,)), height // 2))
    if curve.lr:
        rate = draw.Series("rate", *_columns(curve.lr), colour=4)
        panels.append(draw.Panel((rate,), draw.Axis("learning rate", include=(0.0,)), height=60))
    return draw.figure(
        panels,
        draw.Axis("tokens", include=(0.0,)),
        title="While it learned, over the tokens of the update",
        description=". ".join(words.dips(curve.dips)),
        width=width,
        name=f"curve-{width}",
        standalone=standalone,
    )


def _skills(report: Report) -> dict[str, Markup]:
    """A figure of each suite whose questions have tags: how its skills moved."""
    found: dict[str, list[Move]] = {}
    for row in report.compared.skills if report.compared else ():
        if row.unit == CORRECT:
            found.setdefault(row.suite, []).append(move(row))
    return {
        suite: Markup(moves(rows, title=f"{suite}: skills before and after", width=_WIDE, name=f"skills-{number}"))
        for number, (suite, rows) in enumerate(found.items())
    }


def move(row: Change) -> Move:
    """A skill's change as a row of the figure."""
    low, high = row.interval or (row.change, row.change)
    before, after, least, most = (100 * v for v in (row.before, row.after, row.before + low, row.before + high))
    return Move(row.tag or row.suite, before, after, least, most, str(row.verdict))


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("page.html"))


def _file(name: str) -> str:
    return files("regraft.report").joinpath(name).read_text(encoding="utf-8")


def _figure(curve: Curve, width: int) -> Markup:
    return Markup(learning_curve(curve, width))


def _columns(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def _numbers(row: Change) -> Markup:
    cells = (
        (str(row.n), "n"),
        (words.value(row.before, row.unit), "n"),
        (words.value(row.after, row.unit), "n"),
        (words.signed(row.change, row.unit), "n"),
        (words.interval(row, row.unit), "w"),
        (words.flips(row), "w"),
        (words.smallest(row), "n"),
        (str(row.verdict), "w"),
    )
    return Markup("").join(Markup('<td class="{}">{}</td>').format(kind, said) for said, kind in cells)


def _weighed(moved: Moved) -> bool:
    return moved.unit != CORRECT


def _said(value: float, unit: str) -> str:
    if unit == CORRECT:
        return "right" if value else "wrong"
    return words.value(value, unit)


def _matrix(matrix: Matrix) -> dict[str, Any]:
    """The newest versions as columns; the caption says what is left out."""
    left_out = max(0, len(matrix.versions) - MOST_VERSIONS)
    caption = "Each version of the lineage on each suite; in colour how far it moved since the version before, untested"
    earlier = f" ({left_out} earlier versions are in the JSON)" if left_out else ""
    rows = [{"suite": row.suite, "unit": row.unit, "cells": _cells(row)[left_out:]} for row in matrix.rows]
    return {"versions": matrix.versions[left_out:], "caption": caption + earlier, "rows": rows}


def _cells(row: Ability) -> list[Cell]:
    cells: list[Cell] = []
    before: float | None = None
    for mean in row.means:
        cells.append(Cell("") if mean is None else _cell(row, before, mean))
        before = before if mean is None else mean
    return cells


def _cell(row: Ability, before: float | None, mean: float) -> Cell:
    said = words.value(mean, row.unit)
    if before is None:
        return Cell(said)
    change = mean - before
    share = change if row.unit == CORRECT else change / (abs(before) or 1.0)
    strength = sum(abs(share) >= least for least in _SHADES)
    if not strength:
        return Cell(said, words.signed(change, row.unit))
    better = (change < 0) == row.lower_is_better
    side, word = ("b", "better") if better else ("w", "worse")
    return Cell(said, f"{words.signed(change, row.unit)} {word}", f"{side}{strength}")


def _knobs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the recipe ran with: what it chose over what it was given, and nothing that was left open."""
    chosen = {k: v for k, v in record.items() if k not in ("calls", "memory", "knobs")}
    found = {**(record.get("knobs") or {}), **chosen}
    return [(name, _plain(value)) for name, value in found.items() if value not in (None, [], {})]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _when(time: str) -> str:
    return time.replace("T", " ").replace("+00:00", " UTC")
