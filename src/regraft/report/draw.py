"""Figures as SVG: panels over one x axis, round ticks, lines labelled where they end. Same data, same bytes.

Colours are classes, so a page sets light and dark once with `STYLE`; a figure that stands alone carries it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from regraft.core.errors import RegraftError

# Okabe and Ito (2008), darkened until text in them stands out 4.5 : 1 on white, lightened for dark.
_LIGHT = ("#0b62a4", "#b04a00", "#00694f", "#8a3f7d", "#5c5c5c")
_DARK = ("#6cb8f0", "#f0a04b", "#4cc9a3", "#dc96cf", "#b5b5b5")
COLOURS = len(_LIGHT)


def _rules(colours: Sequence[str], ink: str, grid: str) -> str:
    own = "".join(f".rg .s{i}{{stroke:{c};color:{c}}}" for i, c in enumerate(colours))
    return f".rg text{{fill:{ink}}}.rg .grid{{stroke:{grid}}}{own}"


STYLE = (
    ".rg text{font:12px system-ui,sans-serif}.rg path{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".rg .grid,.rg .bar,.rg .lead{stroke-width:1}.rg .bar,.rg .lead{opacity:.45}"
    ".rg .dashed{stroke-dasharray:5 4}.rg circle{fill:currentColor;stroke:none}"
    ".rg text.label{fill:currentColor;stroke:none;font-weight:600}"
    + _rules(_LIGHT, "#444", "#dcdcdc")
    + f"@media screen and (prefers-color-scheme:dark){{{_rules(_DARK, '#c4c4c4', '#3c3c3c')}}}"
)

_LINE, _CHARACTER, _LONGEST = 15, 7.0, 26
_HEAD, _FOOT, _GAP = 22, 36, 14
_FEW = 12


@dataclass(frozen=True)
class Axis:
    """What an axis shows. `include`: values that must lie on it, beside the data."""

    label: str
    log: bool = False
    include: tuple[float, ...] = ()


@dataclass(frozen=True)
class Series:
    """One line: x and y [points], at least one, all finite. `colour` counts through the palette."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: int = 0
    dashed: bool = False

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.y):
            raise RegraftError(f"{len(self.x)} x and {len(self.y)} y are not a line", where=self.name)
        if not all(map(math.isfinite, (*self.x, *self.y))):
            raise RegraftError("a value is not finite", where=self.name, do="Leave it out and say so")


@dataclass(frozen=True)
class Panel:
    """Lines over one y axis. `height`: of the drawing itself, in pixels."""

    series: tuple[Series, ...]
    y: Axis
    height: int = 200


def figure(
    panels: Sequence[Panel],
    x: Axis,
    *,
    title: str,
    description: str,
    width: int = 720,
    name: str = "figure",
    standalone: bool = False,
) -> str:
    """Panels under each other, with one x axis at the foot.

    Args:
        title, description: for who does not see it.
        width: in pixels; text keeps its size, so draw one for each width that is wanted.
        name: begins the ids of its elements; unique in a page.
        standalone: with its own style, as a file of its own.

    Raises:
        RegraftError: no panel, a panel without lines, or a value that a logarithmic axis cannot show.
    """
    if not panels or not all(panel.series for panel in panels):
        raise RegraftError("there is nothing to draw", where=title)
    across = Scale.of(x, (v for panel in panels for line in panel.series for v in line.x), padding=0.0)
    down = [Scale.of(panel.y, (v for line in panel.series for v in line.y), padding=0.06) for panel in panels]
    left = 10 + max(text_width(label) for scale in down for _, label in scale.ticks())
    named = [_labels_fit(panel) for panel in panels]
    ends = [line.name for panel, fits in zip(panels, named, strict=True) if fits for line in panel.series]
    right = width - 14 - max((text_width(cut(end)) for end in ends), default=0.0)
    across = across.between(left, right)
    body, top = [], 0.0
    for panel, scale, fits in zip(panels, down, named, strict=True):
        head = _HEAD if fits else _HEAD + _LINE * len(panel.series)
        body.append(_panel(panel, across, scale.between(top + head + panel.height, top + head), top, fits))
        top += head + panel.height + _GAP
    body.append(foot(x, across, top - _GAP))
    height = top - _GAP + _FOOT
    style = f"<style>{STYLE}</style>" if standalone else ""
    return (
        f'<svg class="rg" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {px(height)}" width="{width}" '
        f'height="{px(height)}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
        f"{style}{''.join(body)}</svg>"
    )


def ticks(low: float, high: float, *, log: bool = False, most: int = 6) -> tuple[float, ...]:
    """Round numbers from `low` to `high`, about `most` of them: steps of 1, 2, 5 · 10ᵏ, or such multiples if `log`."""
    return _log_ticks(low, high, most) if log else _linear_ticks(low, high, most)


def short(value: float) -> str:
    """A tick's number: 20000 as 20k, 0.0003 as 3e-4."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.10g}"


@dataclass(frozen=True)
class Scale:
    """From values to pixels: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    log: bool
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, axis: Axis, data: Iterable[float], *, padding: float) -> Scale:
        values = [*data, *axis.include]
        low, high = min(values), max(values)
        if axis.log:
            if low <= 0:
                raise RegraftError(f"{low:g} has no place on a logarithmic axis", where=axis.label)
            room = (high / low) ** padding if high > low else 2.0
            return cls(low / room, high * room, True)
        room = (high - low) * padding if high > low else abs(high) * 0.05 or 1.0
        return cls(low - room, high + room, False)

    def between(self, start: float, end: float) -> Scale:
        return Scale(self.low, self.high, self.log, start, end)

    def __call__(self, value: float) -> float:
        at: Callable[[float], float] = math.log10 if self.log else float
        share = (at(value) - at(self.low)) / (at(self.high) - at(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        values = ticks(self.low, self.high, log=self.log, most=most)
        said = [short(value) for value in values]
        if self.log or any(not each.lstrip("-").replace(".", "").isdigit() for each in said):
            return list(zip(values, said, strict=True))
        decimals = max((len(each.partition(".")[2]) for each in said), default=0)
        return [(value, f"{value:.{decimals}f}") for value in values]


def _linear_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    rough = (high - low) / max(most, 1)
    power = math.floor(math.log10(rough))
    factor = next(f for f in (1, 2, 5, 10) if f * 10.0**power >= rough * (1 - 1e-9))
    step = factor * 10.0**power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, max(0, 1 - power)) + 0.0 for i in range(first, last + 1))


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    first, last = math.floor(math.log10(low) + 1e-9), math.floor(math.log10(high) + 1e-9)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in range(first, last + 1) for f in factors]
        found = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if 2 <= len(found) <= most:
            return tuple(found)
    if len(found) < 2:
        return _linear_ticks(low, high, most)
    return tuple(found[:: -(-len(found) // most)])


def _panel(panel: Panel, across: Scale, down: Scale, top: float, fits: bool) -> str:
    parts = [f'<text x="0" y="{px(top + 12)}">{escape(panel.y.label)}</text>']
    for value, label in down.ticks(max(2, panel.height // 30)):
        at = px(down(value))
        parts.append(f'<path class="grid" d="M{px(across.start)} {at}H{px(across.end)}"/>')
        parts.append(f'<text x="{px(across.start - 6)}" y="{at}" dy="4" text-anchor="end">{label}</text>')
    parts += [_line(line, across, down) for line in panel.series]
    parts += _end_labels(panel, across, down) if fits else _legend(panel, top)
    return "".join(parts)


def _line(line: Series, across: Scale, down: Scale) -> str:
    points = [(px(across(x)), px(down(y))) for x, y in zip(line.x, line.y, strict=True)]
    kind = f"s{line.colour % COLOURS}" + " dashed" * line.dashed
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in points) if len(points) <= _FEW else ""
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<g class="{kind}"><path d="M{path}"/>{dots}</g>'


def _end_labels(panel: Panel, across: Scale, down: Scale) -> list[str]:
    """Each name beside the end of its line, moved apart where they would overlap."""
    ends = sorted((down(line.y[-1]), i) for i, line in enumerate(panel.series))
    places = [at for at, _ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + _LINE)
    shift = max(0.0, places[-1] - down.start)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], down.start - (len(places) - 1 - i) * _LINE) if shift else places[i]
    return [
        f'<text class="label s{panel.series[i].colour % COLOURS}" x="{px(across.end + 8)}" y="{px(at)}" dy="4">'
        f"{escape(cut(panel.series[i].name))}</text>"
        for at, (_, i) in zip(places, ends, strict=True)
    ]


def _legend(panel: Panel, top: float) -> list[str]:
    return [
        f'<g class="s{line.colour % COLOURS}{" dashed" * line.dashed}">'
        f'<path d="M0 {px(at - 4)}h18"/><text class="label" x="24" y="{px(at)}">{escape(line.name)}</text></g>'
        for line, at in ((line, top + _HEAD + _LINE * i + 6) for i, line in enumerate(panel.series))
    ]


def foot(axis: Axis, across: Scale, at: float) -> str:
    shown = across.ticks(max(2, int((across.end - across.start) / 90)))
    drawn = [(across(value), label) for value, label in shown]
    kept = [drawn[0], *(b for a, b in pairwise(drawn) if b[0] - a[0] >= text_width(b[1]))] if drawn else []
    parts = [f'<path class="grid" d="M{px(across.start)} {px(at)}H{px(across.end)}"/>']
    parts += [f'<text x="{px(x)}" y="{px(at + 15)}" text-anchor="middle">{label}</text>' for x, label in kept]
    middle = (across.start + across.end) / 2
    parts.append(f'<text x="{px(middle)}" y="{px(at + 32)}" text-anchor="middle">{escape(axis.label)}</text>')
    return "".join(parts)


def _labels_fit(panel: Panel) -> bool:
    return len(panel.series) * _LINE <= panel.height


def cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def text_width(text: str) -> float:
    """About as wide as the text is in pixels; the reader's fonts are not known."""
    return _CHARACTER * len(text)


def px(pixels: float) -> str:
    return f"{pixels:.1f}".removesuffix(".0")
