"""Methods as points: what they keep against what they reach, with intervals; the area of a point is what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from regraft.core.errors import RegraftError
from regraft.report.draw import COLOURS, STYLE, Axis, Scale, cut, foot, px, text_width

_LINE, _HEAD, _FOOT = 14, 26, 40
_AREA = 60.0


@dataclass(frozen=True)
class Point:
    """One method: x and y with half their intervals (0 or no number: none), and its size, above 0, as an area."""

    name: str
    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0
    size: float = 1.0
    colour: int = 0


def scatter(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    *,
    title: str,
    description: str,
    width: int = 720,
    height: int = 420,
    name: str = "scatter",
    standalone: bool = False,
) -> str:
    """Points with their names beside them, moved apart where they would overlap.

    Raises RegraftError where there is nothing to draw.
    """
    if not points:
        raise RegraftError("there is nothing to draw", where=title)
    across, down = (
        Scale.of(axis, values, padding=0.08)
        for axis, values in ((x, [p.x for p in points]), (y, [p.y for p in points]))
    )
    left = 10 + max(text_width(label) for _, label in down.ticks())
    right = width - 14 - max(text_width(cut(p.name)) for p in points)
    across, down = across.between(left, right), down.between(_HEAD + height, _HEAD)
    parts = [f'<text x="0" y="12">{escape(y.label)}</text>']
    for value, label in down.ticks(height // 50):
        at = px(down(value))
        parts.append(f'<path class="grid" d="M{px(left)} {at}H{px(right)}"/>')
        parts.append(f'<text x="{px(left - 6)}" y="{at}" dy="4" text-anchor="end">{label}</text>')
    parts += [_point(p, across, down) for p in points]
    parts += _names(points, across, down)
    parts.append(foot(x, across, _HEAD + height))
    style = f"<style>{STYLE}</style>" if standalone else ""
    total = _HEAD + height + _FOOT
    return (
        f'<svg class="rg" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" '
        f'height="{total}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
        f"{style}{''.join(parts)}</svg>"
    )


def _radius(p: Point) -> float:
    return math.sqrt(_AREA * p.size / math.pi)


def _point(p: Point, across: Scale, down: Scale) -> str:
    circle = f'<circle cx="{px(across(p.x))}" cy="{px(down(p.y))}" r="{px(_radius(p))}" opacity="0.6"/>'
    bars = f"{_bar(p.x, p.dx, across, 'H', down(p.y))}{_bar(p.y, p.dy, down, 'V', across(p.x))}"
    return f'<g class="s{p.colour % COLOURS}"><title>{escape(p.name)}</title>{bars}{circle}</g>'


def _bar(middle: float, half: float, scale: Scale, way: str, at: float) -> str:
    """An interval along one axis, as much of it as the figure shows."""
    if not half > 0 or not math.isfinite(half):
        return ""
    a, b = (scale(min(max(v, scale.low), scale.high)) for v in (middle - half, middle + half))
    start = (a, at) if way == "H" else (at, a)
    return f'<path class="bar" d="M{px(start[0])} {px(start[1])}{way}{px(b)}"/>'


def _names(points: Sequence[Point], across: Scale, down: Scale) -> list[str]:
    """Each name right of its point, as near to it as those that stand there already allow."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    for p in sorted(points, key=lambda p: (down(p.y), across(p.x))):
        start, wanted = across(p.x) + _radius(p) + 4, down(p.y) + 4
        end = start + text_width(p.name)
        steps = (0, *(sign * k for k in range(1, 60) for sign in (1, -1)))
        place = next(
            wanted + step * 4
            for step in steps
            if all(b < start or end < a or abs(wanted + step * 4 - at) >= _LINE - 2 for a, b, at in taken)
        )
        taken.append((start, end, place))
        line = f'<path class="lead" d="M{px(across(p.x))} {px(down(p.y))}L{px(start - 2)} {px(place - 4)}"/>'
        lead = line if abs(place - wanted) > _LINE else ""
        label = f'<text class="label" x="{px(start)}" y="{px(place)}">{escape(p.name)}</text>'
        parts.append(f'<g class="s{p.colour % COLOURS}">{lead}{label}</g>')
    return parts
