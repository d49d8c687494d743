"""A comparison of methods as people read it: tables, and a figure of what each keeps against what it reaches."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from regraft.evidence.cards import cards
from regraft.evidence.compared import LEAST_SEEDS, Cells, Comparison, Row, heads, optimism, remark, verdict
from regraft.report.draw import STYLE, Axis
from regraft.report.scatter import Point, scatter

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "replay": ("replay",),
    "distillation": ("distillation",),
    "weights and gradients": (
        "weight regularisation",
        "gradient projection",
        "weight averaging",
        "sparse",
        "variational",
    ),
    "parameters of a task's own": (
        "parameter isolation",
        "mixture of experts",
        "hypernetworks",
        "prompts",
        "low rank",
    ),
}
"""What a point's colour says; a method belongs to the first family that one of its tags names, else to none."""
WIDE, NARROW = 900, 360
"""Pixels of a page's pictures, of which it shows one."""


def judged(found: Comparison, ground: str) -> str:
    """What a ground is, on how many seeds methods are judged there, and where settings were chosen."""
    on = f", {found.tuned_on[ground]}" if ground in found.tuned_on else ""
    how = (
        f"settings chosen among {found.configurations} of each method on other streams{on} (seeds "
        f"{', '.join(map(str, found.tuning_seeds))})"
        if any(row.tuned is not None for row in found.rows[ground])
        else "at their defaults, nothing tuned"
    )
    count = len(found.seeds)
    return f"{found.grounds[ground]}. Judged on {count} seed{'s' if count > 1 else ''}; {how}."


def legend(found: Comparison) -> str:
    """What the columns of its tables are, in one sentence."""
    interval = (
        "±: half the 95% interval (t over seeds)"
        if len(found.seeds) >= LEAST_SEEDS
        else f"no intervals, for which {LEAST_SEEDS} seeds are needed"
    )
    return (
        f"Average and forgetting after the last task; {interval}; steps and cost: updates and time as multiples of "
        "plain training's, the median over seeds; kept: what stays in memory beside the network."
    )


def untried(rows: Sequence[Row], methods: Sequence[str]) -> list[str]:
    """Those of the methods that have no row."""
    tried = {row.method for row in rows}
    return [name for name in methods if name not in tried]


def markdown(*comparisons: Comparison, figure: str = "", methods: Sequence[str] = ()) -> str:
    """The tables, in Markdown.

    Args:
        figure: the link to a ground's figure, which names the ground as {0}.
        methods: all that there are; which of them a ground did not try is said there.
    """
    blocks = [*dict.fromkeys(map(legend, comparisons))]
    for found in comparisons:
        for ground, rows in found.rows.items():
            columns = heads(rows)
            lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
            lines += [f"| {' | '.join(Cells.of(row))} |" for row in rows if not row.refused]
            blocks += [f"## {ground}", judged(found, ground)]
            blocks += [figure.format(ground)] if figure else []
            blocks += ["\n".join(lines)]
            blocks += filter(None, (verdict(rows), optimism(rows)))
            blocks += [f"`{row.method}` {note}." for row in rows if (note := remark(row))]
            if left := untried(rows, methods):
                blocks += [f"Not tried here: {', '.join(f'`{name}`' for name in left)}."]
    return "\n\n".join(blocks) + "\n"


def picture(found: Comparison, ground: str, *, width: int = WIDE, standalone: bool = False) -> str:
    """One ground's methods: forgetting across, average upwards, cost as area; empty where none has both."""
    colours = _colours()
    rows = [
        row
        for row in found.rows[ground]
        if not row.refused and all(math.isfinite(row.mean(of)[0]) for of in ("forgetting", "average"))
    ]
    if not rows:
        return ""
    right = rows[0].found[0].better == "higher"
    scale, unit = (100, "%") if right else (1, "nats")
    points = []
    for row in rows:
        (x, dx), (y, dy) = row.mean("forgetting"), row.mean("average")
        first = row.method.split("+")[0]
        points.append(
            Point(row.method, x * scale, y * scale, dx * scale, dy * scale, row.cost, colours.get(first, len(FAMILIES)))
        )
    no_dot = [row.method for row in found.rows[ground] if row.diverged]
    notes = [f"Better is {'up (more is right)' if right else 'down (less loss)'} and to the left (less is forgotten)."]
    if len(found.seeds) >= LEAST_SEEDS:
        notes.append(f"Lines through dots: 95% intervals over {len(found.seeds)} seeds, as far as the figure goes.")
    notes += [f"Diverged, and without a dot: {', '.join(no_dot)}."] if no_dot else []
    return scatter(
        points,
        Axis(f"forgetting, {unit}"),
        Axis(f"{'accuracy' if right else 'loss'} after the last task, {unit}"),
        title=f"Methods on {ground}",
        description="; ".join(f"{p.name}: {p.y:.3g} {unit}, forgetting {p.x:.3g}" for p in points),
        width=width,
        name=f"methods-{re.sub(r'[^0-9A-Za-z_]+', '-', ground)}-{width}",
        standalone=standalone,
        colours=[*FAMILIES, "others"],
        area="time, as a multiple of plain training's",
        notes=notes,
    )


def page(found: Comparison) -> str:
    """One page with every ground's figure and table; needs no other file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_file("methods.html"))
    style = Markup(_file("page.css") + STYLE)
    return template.render(
        found=found,
        legend=legend(found),
        judged=judged,
        cells=Cells.of,
        remark=remark,
        heads=heads,
        verdict=verdict,
        optimism=optimism,
        pictures={
            ground: Markup("".join(picture(found, ground, width=width) for width in (WIDE, NARROW)))
            for ground in found.grounds
        },
        style=style,
    )


@cache
def _colours() -> dict[str, int]:
    found = {}
    for card in cards(broken=lambda _: None):
        known = [i for i, tags in enumerate(FAMILIES.values()) if set(tags) & set(card.tags)]
        found[card.name] = known[0] if known else len(FAMILIES)
    return found


def _file(name: str) -> str:
    return files("regraft.report").joinpath(name).read_text(encoding="utf-8")
