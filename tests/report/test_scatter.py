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
