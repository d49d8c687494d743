"""Points with names and intervals."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from regraft.core.errors import RegraftError
from regraft.report.draw import Axis
from regraft.report.scatter import Point, scatter

X, Y = Axis("forgetting"), Axis("accuracy")


def test_every_point_has_its_name_and_none_stands_on_another() -> None:
    points = [Point(f"m{i}", 1.0, 5.0 + i / 1000, dx=0.1, dy=math.nan) for i in range(8)]
    drawn = scatter(points, X, Y, title="t", description="d")
    ElementTree.fromstring(drawn)
    places = [tuple(map(float, m)) for m in re.findall(r'class="label" x="([\d.]+)" y="([-\d.]+)"', drawn)]
    assert len(places) == 8
    heights = sorted(y for _, y in places)
    assert all(b - a >= 10 for a, b in pairwise(heights))


def test_in_a_crowd_the_first_are_named_and_every_name_is_inside() -> None:
    drawn = scatter([Point(f"method{i}", 1.0, 5.0) for i in range(200)], X, Y, title="t", description="d")
    labels = re.findall(r'class="label" x="([-\d.]+)" y="([-\d.]+)">(\w+)<', drawn)
    assert labels[0][2] == "method0"
    assert 10 < len(labels) < 200
    assert all(0 <= float(x) <= 720 and 26 <= float(y) <= 446 for x, y, _ in labels)
    assert drawn.count("<title>method") == 200


def test_intervals_end_where_the_figure_does_and_markup_is_text() -> None:
    drawn = scatter([Point("<a>", 0.0, 0.0, dx=1e9, dy=1e9), Point("b", 1.0, 1.0)], X, Y, title="t", description="d")
    ElementTree.fromstring(drawn)
    assert "&lt;a&gt;" in drawn
    bars = [float(v) for v in re.findall(r'class="bar" d="M[\d.]+ [\d.]+[HV]([\d.]+)"', drawn)]
    assert len(bars) == 2
    assert all(0 <= v <= 720 for v in bars)


def test_nothing_to_draw() -> None:
    with pytest.raises(RegraftError, match="nothing to draw"):
        scatter([], X, Y, title="t", description="d")


def words(drawn: str) -> str:
    return " ".join(each.text or "" for each in ElementTree.fromstring(drawn).iter() if each.tag.endswith("text"))


def test_the_picture_says_its_title_its_colours_its_areas_and_its_notes() -> None:
    points = [Point("a", 0.0, 0.0, size=0.1, colour=1), Point("b", 1.0, 1.0, size=14.0)]
    kinds = ("replay", "distillation", "none has this")
    drawn = scatter(points, X, Y, title="t < u", description="d", colours=kinds, area="time", notes=("Better is up.",))
    said = words(drawn)
    assert all(each in said for each in ("t < u", "replay", "distillation", "1× 3× 10×", "Better is up."))
    assert "none has this" not in said
    assert "Area: time; none is drawn smaller than 0.33×." in said


@pytest.mark.parametrize("sizes", [(1.0, 12.6, 14.2), (1.0, 50.0, 400.0)])
def test_areas_are_as_sizes_however_large(sizes: tuple[float, ...]) -> None:
    points = [Point(f"m{i}", float(i), float(i), size=size) for i, size in enumerate(sizes)]
    drawn = scatter(points, X, Y, title="t", description="d")
    areas = [float(r) ** 2 for r in re.findall(r'r="([\d.]+)" opacity', drawn)]
    assert areas[2] / areas[1] == pytest.approx(sizes[2] / sizes[1], rel=0.05)
    assert areas[2] < 400


def test_a_size_that_is_no_number_is_drawn_and_its_area_says_nothing() -> None:
    drawn = scatter([Point("a", 0.0, 0.0, size=math.nan)], X, Y, title="t", description="d", area="time")
    ElementTree.fromstring(drawn)
    assert "time" not in words(drawn)


def test_names_without_room_are_listed_below() -> None:
    drawn = scatter([Point(f"method{i}", 1.0, 5.0) for i in range(200)], X, Y, title="t", description="d")
    beside = set(re.findall(r'class="label"[^>]*>(\w+)<', drawn))
    listed = set(re.findall(r"(method\d+) \(1, 5\)", words(drawn)))
    assert beside | listed == {f"method{i}" for i in range(200)}
    assert not beside & listed
    height = float(re.findall(r'viewBox="0 0 720 ([\d.]+)"', drawn)[0])
    assert all(float(y) < height for y in re.findall(r'<text [^>]*y="([\d.]+)"', drawn))
