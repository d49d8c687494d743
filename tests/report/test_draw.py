"""Figures: round ticks, every point in its place, well-formed and the same every time."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from regraft.core.errors import RegraftError
from regraft.report import draw
from regraft.report.draw import Axis, Panel, Series, figure, short, ticks

SVG = "{http://www.w3.org/2000/svg}"


def svg_of(*panels: Panel, log: bool = False) -> str:
    return figure(panels, Axis("tokens", log=log), title="a figure", description="of lines")


def drawn(*series: Series, log: bool = False, height: int = 200) -> ElementTree.Element:
    return ElementTree.fromstring(svg_of(Panel(series, Axis("loss"), height), log=log))


def points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    paths = [p.attrib["d"] for g in svg.iter(f"{SVG}g") for p in g.iter(f"{SVG}path")]
    return [[tuple(map(float, pair.split())) for pair in d.removeprefix("M").split("L")] for d in paths]  # type: ignore[misc]


def labels(svg: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 10, 5, (0, 2, 4, 6, 8, 10)),
        (0.1, 0.9, 4, (0.2, 0.4, 0.6, 0.8)),
        (-1, 1, 4, (-1, -0.5, 0, 0.5, 1)),
        (5.3, 6.2, 5, (5.4, 5.6, 5.8, 6.0, 6.2)),
        (1e-6, 9e-6, 5, (2e-6, 4e-6, 6e-6, 8e-6)),
        (123456, 123999, 3, (123600, 123800)),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, most: int, expected: tuple[float, ...]) -> None:
    assert ticks(low, high, most=most) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1, 1e4, (1, 10, 100, 1000, 10000)), (1, 100, (1, 2, 5, 10, 20, 50, 100)), (3, 8, (3, 4, 5, 6, 7, 8))],
)
def test_logarithmic_ticks(low: float, high: float, expected: tuple[float, ...]) -> None:
    found = ticks(low, high, log=True, most=7)
    assert found == pytest.approx(expected)


def test_many_decades_are_thinned() -> None:
    found = ticks(1e-9, 1e9, log=True, most=6)
    assert len(found) <= 6
    assert all(math.log10(v) == pytest.approx(round(math.log10(v))) for v in found)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (20000, "20k"), (1.5e6, "1.5M"), (3e-4, "3e-4"), (0.003, "0.003"), (2e9, "2G"), (-20000, "-20k")],
)
def test_short_numbers(value: float, said: str) -> None:
    assert short(value) == said


def test_points_lie_where_they_belong() -> None:
    svg = drawn(Series("a", (0.0, 50.0, 100.0), (1.0, 3.0, 2.0)))
    [[(x0, y0), (x1, y1), (x2, y2)]] = points(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.15)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.25)  # larger values lie higher
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points(svg)[0])


def test_a_logarithmic_axis_spaces_ratios_evenly() -> None:
    [[(x0, _), (x1, _), (x2, _)]] = points(drawn(Series("a", (1.0, 10.0, 100.0), (1.0, 2.0, 3.0)), log=True))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.15)


def test_one_point_and_flat_lines_are_drawn() -> None:
    assert len(list(drawn(Series("a", (5.0,), (2.0,))).iter(f"{SVG}circle"))) == 1
    assert "nan" not in svg_of(Panel((Series("a", (0.0, 1.0), (0.0, 0.0)),), Axis("y")))


def test_ticks_of_an_axis_have_equal_decimals() -> None:
    said = [t for t in labels(drawn(Series("a", (0.0, 1.0), (5.35, 6.22)))) if re.fullmatch(r"\d\.\d+", t)]
    assert len({len(t) for t in said if float(t) > 1}) == 1


def test_lines_are_labelled_at_their_ends_without_overlap() -> None:
    svg = drawn(*(Series(f"line {i}", (0.0, 1.0), (1.0, 2.0 + i / 1000), colour=i) for i in range(6)), height=120)
    ends = [float(t.attrib["y"]) for t in svg.iter(f"{SVG}text") if "label" in t.attrib.get("class", "")]
    assert len(ends) == 6
    ordered = sorted(ends)
    assert all(b - a >= 12 for a, b in pairwise(ordered))


def test_more_lines_than_labels_fit_get_a_legend() -> None:
    svg = drawn(*(Series(f"line {i}", (0.0, 1.0), (0.0, float(i))) for i in range(9)), height=60)
    assert {f"line {i}" for i in range(9)} <= set(labels(svg))
    assert all(t.attrib["x"] == "24" for t in svg.iter(f"{SVG}text") if t.attrib.get("class") == "label")


def test_names_are_escaped_and_told_to_who_does_not_see() -> None:
    text = figure(
        [Panel((Series('<script>&"', (0.0, 1.0), (0.0, 1.0)),), Axis("<y>"))],
        Axis("<x>"),
        title="<t>",
        description="<d>",
    )
    svg = ElementTree.fromstring(text)
    assert "<script>" not in text
    assert svg.findtext(f"{SVG}title") == "<t>"
    assert svg.findtext(f"{SVG}desc") == "<d>"
    ids = {e.attrib["id"] for e in svg.iter() if "id" in e.attrib}
    assert set(svg.attrib["aria-labelledby"].split()) == ids


def test_same_data_same_bytes_and_a_style_of_its_own_if_it_stands_alone() -> None:
    panels = [
        Panel((Series("a", (0.0, 1.0), (0.0, 1.0)),), Axis("y")),
        Panel((Series("b", (0.5,), (3.0,)),), Axis("z"), 60),
    ]
    one, two = (figure(panels, Axis("x"), title="t", description="d") for _ in range(2))
    assert one == two
    assert "<style>" not in one
    assert draw.STYLE in figure(panels, Axis("x"), title="t", description="d", standalone=True)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(RegraftError, match="not a line"):
        Series("a", (1.0,), ())
    with pytest.raises(RegraftError, match="not finite"):
        Series("a", (1.0,), (math.nan,))
    with pytest.raises(RegraftError, match="nothing to draw"):
        figure([], Axis("x"), title="t", description="d")
    with pytest.raises(RegraftError, match="logarithmic"):
        drawn(Series("a", (0.0, 1.0), (1.0, 2.0)), log=True)
