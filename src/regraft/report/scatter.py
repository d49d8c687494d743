"""Methods as points: what they keep against what they reach, with intervals; the area of a point is what it costs.

The figure says itself what it shows: the colours, the areas, and the points whose names found no room.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from regraft.core.errors import RegraftError
from regraft.report.draw import COLOURS, STYLE, Axis, Scale, foot, px, text_width

_LINE, _HEAD, _FOOT, _ROW = 14, 46, 40, 18
_AREA, _LARGEST, _SMALLEST = 60.0, 1200.0, 20.0
"""Square pixels of a point of size 1, of the largest, in whose favour that is less, and of the smallest drawn."""
_STEP, _STEPS, _BESIDE = 6, 20, (0, 16, 48, 96)
"""A name may stand so many steps above or below its point, and so many pixels farther beside it than it must."""


@dataclass(frozen=True)
class Point:
    """One method: x and y with half their intervals (0 or no number: none), and its size, as an area.

    A size that is no number is drawn as 1.
    """

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
    colours: Sequence[str] = (),
    area: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Points with their names beside them; in a crowd the first points are named there, the others in a list below.

    Args:
        colours: what each colour means, by its number; those that no point has are not shown.
        area: what the size of a point means.
        notes: sentences below the figure.

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
    unit = min(_AREA, _LARGEST / max((p.size for p in points if math.isfinite(p.size)), default=1.0))
    parts = [f'<text style="font-weight:600" x="0" y="14">{escape(title)}</text>']
    parts.append(f'<text x="0" y="34">{escape(y.label)}</text>')
    for value, label in down.ticks(height // 50):
        at = px(down(value))
        parts.append(f'<path class="grid" d="M{px(left)} {at}H{px(right)}"/>')
        parts.append(f'<text x="{px(left - 6)}" y="{at}" dy="4" text-anchor="end">{label}</text>')
    parts += [_point(p, across, down, unit) for p in points]
    named, nameless = _names(points, across, down, _Box(left, width, _HEAD, _HEAD + height), unit)
    parts += [*named, foot(x, across, _HEAD + height)]
    style = f"<style>{STYLE}</style>" if standalone else ""
    if nameless:
        notes = (*notes, f"No room for the names of {', '.join(f'{p.name} ({p.x:.3g}, {p.y:.3g})' for p in nameless)}.")
    said, total = _below(points, _HEAD + height + _FOOT, width, unit, colours, area, notes)
    parts += said
    return (
        f'<svg class="rg" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {px(total)}" width="{width}" '
        f'height="{px(total)}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
        f"{style}{''.join(parts)}</svg>"
    )


def _radius(size: float, unit: float) -> float:
    return math.sqrt(max(unit * size if math.isfinite(size) else unit, _SMALLEST) / math.pi)


def _point(p: Point, across: Scale, down: Scale, unit: float) -> str:
    radius = px(_radius(p.size, unit))
    circle = f'<circle cx="{px(across(p.x))}" cy="{px(down(p.y))}" r="{radius}" opacity="0.6"/>'
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


def _names(
    points: Sequence[Point], across: Scale, down: Scale, frame: _Box, unit: float
) -> tuple[list[str], list[Point]]:
    """Each name beside its point, as near as the names before it and all points allow; and those without room."""
    taken = [_Box(x - 3, x + 3, y - 3, y + 3) for p in points for x, y in [(across(p.x), down(p.y))]]
    parts, nameless = [], []
    for p in points:
        x, y, gap = across(p.x), down(p.y), _radius(p.size, unit) + 4
        long = 1.2 * text_width(p.name)  # bold
        places = [
            (math.hypot(gap + out, _STEP * row), _Box(start, start + long, middle - _LINE / 2, middle + _LINE / 2))
            for row in range(-_STEPS, _STEPS + 1)
            for middle in (y + _STEP * row,)
            for out in _BESIDE
            for start in (x + gap + out, x - gap - out - long)
        ]
        places.sort(key=lambda place: place[0])
        free = (b for _, b in places if b.within(frame) and not any(map(b.meets, taken)))
        box = next(free, None)
        if box is None:
            nameless.append(p)
            continue
        taken.append(box)
        near, middle = box.left - 2 if box.left > x else box.right + 2, (box.top + box.bottom) / 2
        line = f'<path class="lead" d="M{px(x)} {px(y)}L{px(near)} {px(middle)}"/>'
        lead = line if math.hypot(near - x, middle - y) > 1.5 * gap else ""
        label = f'<text class="label" x="{px(box.left)}" y="{px(middle + 4)}">{escape(p.name)}</text>'
        parts.append(f'<g class="s{p.colour % COLOURS}">{lead}{label}</g>')
    return parts, nameless


def _below(
    points: Sequence[Point],
    top: float,
    width: int,
    unit: float,
    colours: Sequence[str],
    area: str,
    notes: Sequence[str],
) -> tuple[list[str], float]:
    """What the colours and the areas mean, and the notes; and where they end."""
    parts: list[str] = []
    x, y = 0.0, top + _ROW
    used = {p.colour % COLOURS for p in points}
    for number, says in enumerate(colours):
        if number not in used:
            continue
        long = text_width(says) + 30
        if x and x + long > width:
            x, y = 0.0, y + _ROW
        dot = f'<circle cx="{px(x + 6)}" cy="{px(y - 4)}" r="5"/>'
        parts.append(
            f'<g class="s{number}">{dot}<text class="label" x="{px(x + 16)}" y="{px(y)}">{escape(says)}</text></g>'
        )
        x += long
    y += _ROW if parts else 0.0
    sizes = [p.size for p in points if math.isfinite(p.size)]
    if area and sizes:
        y += max(0.0, _radius(max(sizes), unit) - _ROW / 2)
        x = 0.0
        for size in _steps(max(sizes)):
            r = _radius(size, unit)
            parts.append(f'<circle cx="{px(x + r)}" cy="{px(y - 4)}" r="{px(r)}" opacity="0.6"/>')
            parts.append(f'<text x="{px(x + 2 * r + 4)}" y="{px(y)}">{size:g}×</text>')
            x += 2 * r + 14 + text_width(f"{size:g}×")
        least = _SMALLEST / unit
        notes = (f"Area: {area}{f'; none is drawn smaller than {least:.2g}×' if min(sizes) < least else ''}.", *notes)
        y += max(_ROW, _radius(max(sizes), unit) + _ROW / 2)
    for note in notes:
        for line in textwrap.wrap(note, max(20, int(width / text_width("x")))):
            parts.append(f'<text x="0" y="{px(y)}">{escape(line)}</text>')
            y += _ROW
    return parts, y - _ROW / 2


def _steps(most: float) -> Iterator[float]:
    """1, and round numbers of about three times the one before, up to `most`."""
    yield 1
    yield from (f * 10**k for k in range(6) for f in (3, 10) if f * 10**k <= most)
