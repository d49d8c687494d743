"""Methods as points: what they keep against what they reach, with intervals; the area of a point is what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from regraft.core.errors import RegraftError
from regraft.report.draw import COLOURS, STYLE, Axis, Scale, foot, px, text_width

_LINE, _HEAD, _FOOT = 14, 26, 40
_AREA = 60.0
_NEAR = 14
"""How far a name may stand from its point, in steps of 4 px."""


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
    """Points with their names beside them; in a crowd the first points are named, the others when they are pointed at.

    Raises RegraftError where there is nothing to draw.
    """
    if not points:
        raise RegraftError("there is nothing to draw", where=title)
    across, down = (
        Scale.of(axis, values, padding=0.08)
        for axis, values in ((x, [p.x for p in points]), (y, [p.y for p in points]))
    )
    left = 10 + max(text_width(label) for _, label in down.ticks())
    right = width - 14
    across, down = across.between(left, right), down.between(_HEAD + height, _HEAD)
    parts = [f'<text x="0" y="12">{escape(y.label)}</text>']
    for value, label in down.ticks(height // 50):
        at = px(down(value))
        parts.append(f'<path class="grid" d="M{px(left)} {at}H{px(right)}"/>')
        parts.append(f'<text x="{px(left - 6)}" y="{at}" dy="4" text-anchor="end">{label}</text>')
    parts += [_point(p, across, down) for p in points]
    parts += _names(points, across, down, _Box(left, width, _HEAD, _HEAD + height))
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


class _Box(NamedTuple):
    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: _Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


def _names(points: Sequence[Point], across: Scale, down: Scale, frame: _Box) -> list[str]:
    """Each name beside its point, as near to it as the names before it and all points allow; none where none fits."""
    taken = [_Box(x - 3, x + 3, y - 3, y + 3) for p in points for x, y in [(across(p.x), down(p.y))]]
    parts = []
    for p in points:
        x, y, gap, long = across(p.x), down(p.y), _radius(p) + 4, 1.1 * text_width(p.name)  # bold
        rows = [0, *(sign * k for k in range(1, _NEAR) for sign in (-1, 1))]
        starts = [start for out in (gap, 3 * gap) for start in (x + out, x - out - long)]
        places = [
            _Box(start, start + long, y + 4 * row - _LINE / 2, y + 4 * row + _LINE / 2)
            for row in rows
            for start in starts
        ]
        free = (b for b in places if b.within(frame) and not any(map(b.meets, taken)))
        box = next(free, None)
        if box is None:
            continue
        taken.append(box)
        near, middle = box.left - 2 if box.left > x else box.right + 2, (box.top + box.bottom) / 2
        line = f'<path class="lead" d="M{px(x)} {px(y)}L{px(near)} {px(middle)}"/>'
        lead = line if math.hypot(near - x, middle - y) > 1.5 * gap else ""
        label = f'<text class="label" x="{px(box.left)}" y="{px(middle + 4)}">{escape(p.name)}</text>'
        parts.append(f'<g class="s{p.colour % COLOURS}">{lead}{label}</g>')
    return parts
