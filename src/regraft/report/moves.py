"""How skills moved, as SVG: a row a skill, from where it was to where it is, with the interval of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from regraft.core.errors import RegraftError
from regraft.report.draw import STYLE, Axis, Scale, cut, foot, px, text_width

_ROW, _TOP = 22, 26
_COLOURS = {"better": 2, "worse": 1}


@dataclass(frozen=True)
class Move:
    """A skill before and after, in percent; `low` and `high`: where it may be; `finding`: better, worse, or else."""

    name: str
    before: float
    after: float
    low: float
    high: float
    finding: str = ""


def moves(
    rows: Sequence[Move],
    *,
    title: str,
    description: str = "",
    width: int = 720,
    name: str = "moves",
    alone: bool = False,
) -> str:
    """A figure of all rows, the weakest before first.

    Args:
        title: for who does not see it.
        alone: with its own style, as a file of its own.

    Raises RegraftError where there is no row.
    """
    if not rows:
        raise RegraftError("there is nothing to draw", where=title)
    ordered = sorted(rows, key=lambda row: (row.before, row.after, row.name))
    left = 14 + max(text_width(cut(row.name)) for row in ordered)
    across = Scale(0.0, 100.0, log=False).between(left, width - 20)
    bottom = _TOP + _ROW * len(ordered)
    description = "; ".join(f"{row.name} from {row.before:.0f} to {row.after:.0f}" for row in ordered)
    body = ['<text x="0" y="12">before ○   after ●   with the 95% interval of the change</text>']
    for value, _ in across.ticks():
        body.append(f'<path class="grid" d="M{px(across(value))} {_TOP - 6}V{bottom}"/>')
    body += [_row(row, across, _TOP + _ROW * (i + 0.5)) for i, row in enumerate(ordered)]
    body.append(foot(Axis("right answers, percent"), across, bottom))
    height = bottom + 36
    style = f"<style>{STYLE}</style>" if alone else ""
    return (
        f'<svg class="rg" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
        f"{style}{''.join(body)}</svg>"
    )


def _row(row: Move, across: Scale, at: float) -> str:
    x, y = ([px(across(v)) for v in (row.before, row.after)], px(at))
    low, high = (px(across(min(100.0, max(0.0, v)))) for v in (row.low, row.high))
    return (
        f'<text x="{px(across.start - 8)}" y="{y}" dy="4" text-anchor="end">{escape(cut(row.name))}</text>'
        f'<g class="s{_COLOURS.get(row.finding, 4)}"><path class="bar" style="stroke-width:7" d="M{low} {y}H{high}"/>'
        f'<path d="M{x[0]} {y}H{x[1]}"/><circle cx="{x[1]}" cy="{y}" r="4.5"/>'
        f'<circle cx="{x[0]}" cy="{y}" r="4" style="fill:none;stroke:currentColor;stroke-width:1.5"/></g>'
    )
