import math

import pytest
from part_world import context

from regraft.core.errors import RegraftError
from regraft.parts.metrics.stability_gap import Gap, measure_gap, stability_gap


def test_a_dip_by_hand():
    # The lines of d = a(0) - a are (0,0) (10,2) (20,1) (40,-1) (50,-1): 10 + 15 + a triangle of width 10 and height 1.
    found = measure_gap([0, 10, 20, 40, 50], [5, 3, 4, 6, 6], better="higher")
    assert found == Gap(depth=2, at=10, recovery=40, area=30, change=-1)
    assert measure_gap([0, 10, 20, 40, 50], [-5, -3, -4, -6, -6], better="lower") == found


def test_no_dip():
    assert measure_gap([0, 1, 2], [3.0, 2.0, 2.5], better="lower") == Gap(0, 0, 0, 0, -0.5)
    assert measure_gap([0, 1, 2], [3.0, 3.0, 3.0], better="lower") == Gap(0, 0, 0, 0, 0)


def test_never_recovered():
    found = measure_gap([0, 4], [1.0, 3.0], better="lower")
    assert found == Gap(depth=2, at=4, recovery=None, area=4, change=2)
    assert found.numbers("old") == {"depth/old": 2, "at/old": 4, "area/old": 4, "change/old": 2, "recovered/old": 0}


def test_recovery_is_after_the_deepest_of_several_dips():
    found = measure_gap([0, 1, 2, 3, 4], [0.0, 1.0, 0.0, 2.0, 0.0], better="lower")
    assert (found.depth, found.at, found.recovery) == (2, 3, 4)
    assert found.area == 3


def test_one_record():
    assert measure_gap([7], [2.0], better="higher") == Gap(0, 7, 7, 0, 0)


def test_bad_curves():
    with pytest.raises(RegraftError, match=r"^old: values: entry 1 is nan"):
        measure_gap([0, 1], [1.0, math.nan], better="lower", name="old")
    with pytest.raises(RegraftError, match="do not rise"):
        measure_gap([0, 5, 5], [1, 2, 3], better="lower")
    with pytest.raises(RegraftError, match="not a curve"):
        measure_gap([], [], better="lower")


RECORDS = [
    {"step": 0.0, "tokens": 0.0, "held/old": 2.0, "held/new": 4.0},
    {"step": 5.0, "tokens": 500.0, "nll()": 3.0},
    {"step": 10.0, "tokens": 1000.0, "nll()": 3.0, "held/old": 3.0, "held/new": 3.0},
    {"step": 20.0, "tokens": 3000.0, "nll()": 2.0, "held/old": 2.0, "held/new": 2.0},
]


def test_the_metric_reads_the_engines_records():
    ctx = context(memory={"curve": RECORDS})
    numbers = stability_gap()(None, ctx).numbers
    assert numbers["depth/old"] == 1
    assert numbers["recovery/old"] == 20
    assert numbers["depth/new"] == 0
    assert numbers["change/new"] == -2
    assert stability_gap(of=("old",), over="tokens")(None, ctx).numbers == {
        "depth/old": 1,
        "at/old": 1000,
        "area/old": 1500,
        "change/old": 0,
        "recovery/old": 3000,
        "recovered/old": 1,
    }


def test_the_metric_says_what_is_missing():
    with pytest.raises(RegraftError, match="no curve 'curve'"):
        stability_gap()(None, context())
    with pytest.raises(RegraftError, match=r"no gone; it holds \['new', 'old'\]"):
        stability_gap(of=("gone",))(None, context(memory={"curve": RECORDS}))
    with pytest.raises(RegraftError, match="monitors"):
        stability_gap()(None, context(memory={"curve": [{"step": 1.0}]}))
