from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from regraft.core.errors import RegraftError
from regraft.evidence.compare import Comparison, Finding, compare
from regraft.evidence.readings import Reading, pair


def reading(values: Any, *, unit: str = "nats/token", suite: str = "old", **more: Any) -> Reading:
    values = np.asarray(values, dtype=float)
    given: dict[str, Any] = {
        "suite": suite,
        "fingerprint": "same items",
        "unit": unit,
        "lower_is_better": unit == "nats/token",
        "ids": tuple(f"item {row}" for row in range(values.size)),
        "values": values,
        "weights": np.ones(values.size),
    }
    return Reading(**{**given, **more})


def of_suites(*readings: Reading) -> dict[str, Reading]:
    return {one.suite: one for one in readings}


def compared(before: Reading, after: Reading) -> Comparison:
    return compare(of_suites(before), of_suites(after))


def losses(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).gamma(9, 0.3, n)


# A reading


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"values": [1.0, float("nan"), 3.0]}, "'item 1' has no finite value"),
        ({"values": [1.0, 2.0]}, "3 ids but 2 values"),
        ({"values": [[1.0], [2.0], [3.0]]}, "shape"),
        ({"weights": [1.0, -2.0, 1.0]}, "'item 1' has a weight below 0"),
        ({"weights": [0.0, 0.0, 0.0]}, "all weights are 0"),
        ({"ids": ("a", "b", "a")}, "'a' comes twice"),
        ({"tags": (("x",),)}, "3 ids but 1 tags"),
        ({"continuous": [1.0, float("inf"), 1.0]}, "companion"),
        ({"unit": "correct"}, "lower_is_better"),
        ({"unit": "correct", "values": [0.0, 0.5, 1.0]}, "'item 1' is neither right"),
        ({"unit": "correct", "weights": [1.0, 2.0, 1.0]}, "'item 1' weighs"),
    ],
)
def test_a_reading_refuses_what_cannot_be_averaged(change: dict[str, Any], says: str) -> None:
    with pytest.raises(RegraftError, match=says) as refused:
        replace(reading([1.0, 0.0, 1.0]), **change)
    assert "suite old" in str(refused.value) or "shape" in says


def test_a_reading_needs_items() -> None:
    with pytest.raises(RegraftError, match="no items"):
        reading([])


def test_a_readings_numbers_are_its_own() -> None:
    values = np.array([1.0, 2.0])
    one = reading(values)
    values[0] = 9
    assert one.values[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        one.values[0] = 9


def test_mean_is_per_token() -> None:
    assert reading([1.0, 4.0], weights=[3, 1]).mean == 1.75


def test_subset_by_tag() -> None:
    one = reading([1.0, 2.0, 3.0], tags=(("a",), ("b", "a"), ()), texts=("x", "y", "z"), continuous=[5.0, 6.0, 7.0])
    part = one.subset("a")
    assert (part.ids, part.texts, list(part.values)) == (("item 0", "item 1"), ("x", "y"), [1.0, 2.0])
    assert part.continuous is not None
    assert list(part.continuous) == [5.0, 6.0]
    assert one.skills == ("a", "b")
    with pytest.raises(RegraftError, match="Tags: a, b"):
        one.subset("c")


@pytest.mark.parametrize("more", [{}, {"tags": (("a",), ()), "texts": ("x", "y"), "continuous": [0.5, 1.5]}])
def test_stored_and_read_back(more: dict[str, Any]) -> None:
    one = reading([1.0, 2.0], weights=[3, 1], **more)
    header, arrays = one.to_parts()
    again = Reading.from_parts(json.loads(json.dumps(header)), arrays)
    assert again.to_parts()[0] == header
    for name, array in arrays.items():
        assert (again.to_parts()[1][name] == array).all()
    del header["unit"]
    with pytest.raises(RegraftError, match="suite old: the stored reading lacks 'unit'"):
        Reading.from_parts(header, arrays)


# Pairing


def test_items_pair_by_id_and_the_others_are_counted() -> None:
    before = reading([1.0, 2.0, 3.0, 4.0])
    after = reading([30.0, 20.0, 99.0], ids=("item 2", "item 1", "new"))
    both = pair(before, after)
    assert both.before.ids == both.after.ids == ("item 1", "item 2")
    assert list(both.after.values) == [20.0, 30.0]
    assert (both.only_before, both.only_after) == (2, 1)
    (change,) = compared(before, after).suites
    assert (change.n, change.only_before, change.only_after) == (2, 2, 1)
    assert any("3 items were read in one version only" in note for note in change.notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fingerprint": "other items"}, "other items or scoring"),
        ({"unit": "bits/byte"}, "the other in bits/byte"),
        ({"ids": ("x", "y")}, "share no item"),
        ({"weights": [1.0, 2.0]}, "'item 1' weighs differently"),
    ],
)
def test_readings_that_do_not_compare(change: dict[str, Any], says: str) -> None:
    one = reading([1.0, 2.0])
    with pytest.raises(RegraftError, match=says):
        compared(one, replace(one, **change))


# Comparison


def test_a_change_of_loss() -> None:
    before = losses(200)
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    (worse,) = compared(reading(before), reading(before + 0.1 + noise)).suites
    assert worse.verdict is Finding.WORSE
    assert worse.interval is not None
    width = 1.97 * float(np.std(0.1 + noise, ddof=1)) / np.sqrt(200)
    assert worse.interval == pytest.approx((worse.change - width, worse.change + width), abs=0.1 * width)
    assert worse.flips is None
    assert worse.smallest_detectable == pytest.approx(2.8 * 0.1 / np.sqrt(200), rel=0.1)
    (better,) = compared(reading(before + 0.1 + noise), reading(before)).suites
    assert better.verdict is Finding.BETTER
    assert better.change == pytest.approx(-worse.change)
    (score,) = compared(reading(before, unit="score"), reading(before + 0.1 + noise, unit="score")).suites
    assert score.verdict is Finding.BETTER
    (none,) = compared(reading(before), reading(before + noise)).suites
    assert none.verdict is Finding.NO_CHANGE


def test_flips_are_listed() -> None:
    before = np.zeros(40)
    before[:20] = 1
    after = before.copy()
    after[0:12] = 0
    after[30] = 1
    (change,) = compared(reading(before, unit="correct"), reading(after, unit="correct")).suites
    assert change.flips is not None
    assert change.flips.negative == tuple(f"item {row}" for row in range(12))
    assert change.flips.positive == ("item 30",)
    assert change.flips.negative_rate == 0.3
    assert change.flips.negative_interval[0] < 0.3 < change.flips.negative_interval[1]
    assert change.change == pytest.approx(-11 / 40)
    assert change.verdict is Finding.WORSE
    assert change.p == pytest.approx(2 * 14 / 2**13)


@pytest.mark.parametrize(("lost", "won"), [(5, 0), (7, 1), (9, 2), (10, 2), (0, 6), (4, 4)])
def test_an_interval_of_flips_leaves_out_zero_only_with_its_test(lost: int, won: int) -> None:
    before = np.arange(150) < 100
    after = before.copy()
    after[:lost] = False
    after[100 : 100 + won] = True
    (change,) = compared(reading(before, unit="correct"), reading(after, unit="correct")).suites
    assert change.interval is not None
    assert change.interval[0] <= change.change <= change.interval[1]
    assert change.interval[0] <= 0 <= change.interval[1] or change.p <= 0.05


def test_a_companion_sees_what_a_threshold_hides() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(2, 0.3, 100)
    right = np.ones(100)
    before = reading(right, unit="correct", continuous=margin)
    after = reading(right, unit="correct", continuous=margin - 0.5 + rng.normal(0, 0.1, 100))
    (change,) = compared(before, after).suites
    assert change.verdict is Finding.NO_CHANGE
    assert change.companion is not None
    assert change.companion.interval is not None
    assert change.companion.interval[1] < -0.4


@pytest.mark.parametrize(("values", "note"), [(np.zeros(20), "floor"), (np.ones(20), "ceiling")])
def test_a_suite_that_cannot_move_says_so(values: Any, note: str) -> None:
    (change,) = compared(reading(values, unit="correct"), reading(values, unit="correct")).suites
    assert any(one.startswith(note) for one in change.notes)
    assert "identical on every item" in change.notes
    assert change.interval is not None
    assert change.interval[0] < 0 < change.interval[1]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("unit", ["correct", "nats/token"])
def test_too_few_items(n: int, unit: str) -> None:
    (change,) = compared(reading(np.ones(n), unit=unit), reading(np.zeros(n), unit=unit)).suites
    assert change.verdict is Finding.TOO_FEW
    assert (change.interval is None) == (n == 1 and unit != "correct")


def test_rounding_is_no_change() -> None:
    before = losses(50)
    (change,) = compared(reading(before), reading(before + 1e-8)).suites
    assert change.verdict is Finding.NO_CHANGE
    (same,) = compared(reading(before), reading(before)).suites
    assert (same.change, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)
    assert same.smallest_detectable is None


def test_multiplicity_over_suites_and_skills() -> None:
    """Ten suites of an unchanged model with noisy scores: a false finding in at most 5% of comparisons."""
    false, runs = 0, 60
    for run in range(runs):
        rng = np.random.default_rng(run)
        values = {f"suite {k}": losses(30, seed=k) for k in range(10)}
        before = of_suites(*(reading(v, suite=name) for name, v in values.items()))
        after = of_suites(*(reading(v + rng.standard_t(3, 30) * 0.05, suite=name) for name, v in values.items()))
        false += any(c.verdict is not Finding.NO_CHANGE for c in compare(before, after, seed=run).suites)
    assert false <= 7  # P(Binomial(60, 0.05) > 7) < 1%


def test_skills_are_a_family_of_their_own() -> None:
    tags = tuple((("odd", "all") if row % 2 else ("all",)) for row in range(60))
    before = losses(60)
    after = before + np.where(np.arange(60) % 2, 0.5, 0.0) + np.random.default_rng(2).normal(0, 0.05, 60)
    found = compared(reading(before, tags=tags), reading(after, tags=tags))
    skills = {change.tag: change for change in found.skills}
    assert list(skills) == ["all", "odd"]
    assert skills["odd"].n == 30
    assert skills["odd"].change == pytest.approx(0.5, abs=0.05)
    assert skills["odd"].p_adjusted >= skills["odd"].p
    assert found.suites[0].p_adjusted == found.suites[0].p


def test_another_suite_does_not_move_the_dice() -> None:
    a, b = reading(losses(30), suite="a"), reading(losses(30, 1), suite="b")
    a2, b2 = reading(losses(30, 2), suite="a"), reading(losses(30, 3), suite="b")
    alone, together = compared(a, a2).suites[0], compare(of_suites(b, a), of_suites(b2, a2)).suites[1]
    assert alone.interval == together.interval
    assert compare(of_suites(a), of_suites(a2), seed=1).suites[0].interval != alone.interval


def test_suites_of_one_side_are_named() -> None:
    a, b, c = (reading(losses(12), suite=name) for name in "abc")
    found = compare(of_suites(a, b), of_suites(b, c))
    assert found.missing == {"a": "read only before", "c": "read only after"}
    assert [change.suite for change in found.suites] == ["b"]
    assert compare({}, {}).suites == ()


def test_json_and_table() -> None:
    right = (losses(25) > 2.7).astype(float)
    tags = (("x",),) * 25
    before = of_suites(
        reading(losses(25)), reading(right, unit="correct", suite="items", tags=tags), reading([1.0], suite="one")
    )
    after = of_suites(
        reading(losses(25, 4)),
        reading(1 - right, unit="correct", suite="items", tags=tags),
        reading([2.0], suite="one"),
    )
    found = compare(before, after)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["suite"] for row in plain["suites"]] == ["old", "items", "one"]
    assert plain["suites"][1]["verdict"] in set(Finding)
    table = found.table()
    assert [row["suite"] for row in table] == ["old", "items", "one", "items/x"]
    assert len({tuple(row) for row in table}) == 1
    assert table[2]["interval"] == "-"
