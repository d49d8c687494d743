"""Which method for a case: the best measured, what cannot be told from it, the cheapest of these."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from regraft.evidence.compared import (
    BASELINE,
    Cells,
    Comparison,
    Found,
    Row,
    Setting,
    heads,
    measured,
    reach,
    read,
    verdict,
)
from regraft.evidence.tags import MEANING
from regraft.report.choosing import CASES, Case, choose, choosing, known
from regraft.report.methods import FAMILIES, markdown, page, picture

KEEPS, KEEPS_NOT = Case("a", "g", True), Case("b", "g", False)
TAGS = {"er": {"replay"}, "ewc": {"exemplar-free"}, "joint": {"upper bound"}, "lwf": {"exemplar-free"}}


def row(name: str, averages: list[float], cost: float, better: Any = "higher", kept: int = 2048, **other: Any) -> Row:
    found = tuple(Found(a, 0.1, better, 1.0, 10, kept) for a in averages)
    return Row(name, Setting(), None, found, cost, **other)


def comparison(*rows: Row) -> Comparison:
    return Comparison({"g": "a ground"}, {"g": rows}, (0, 1, 2), (100,), 1)


WHOLE = comparison(
    row("joint", [0.99, 0.98, 0.99], 9.0),
    row("er", [0.90, 0.92, 0.91], 2.0),
    row("ewc", [0.91, 0.90, 0.91], 1.5),
    row("lwf", [0.50, 0.52, 0.51], 1.2),
    row("clr", [math.nan] * 3, math.nan, refused="no convolution"),
)


def test_upper_bounds_are_no_choice_and_the_cheapest_of_what_is_alike_is_named() -> None:
    choice = choose(WHOLE.rows, KEEPS, TAGS)
    assert choice is not None
    assert (choice.best.method, [r.method for r in choice.as_good], choice.cheapest.method) == ("er", ["ewc"], "ewc")
    without = choose(WHOLE.rows, KEEPS_NOT, TAGS)
    assert without is not None
    assert (without.best.method, without.as_good) == ("ewc", ())
    assert choose(WHOLE.rows, Case("c", "elsewhere", True), TAGS) is None


def test_what_is_had_for_less_memory_is_named_by_halves() -> None:
    found = comparison(
        row("der_pp", [0.95, 0.96, 0.95], 2.0, kept=1000),
        row("icarl", [0.94, 0.95, 0.94], 2.0, kept=501),
        row("er", [0.90, 0.92, 0.91], 2.0, kept=500),
        row("uer", [0.80, 0.82, 0.81], 2.0, kept=500),
        row("ewc", [0.70, 0.72, 0.71], 1.5, kept=251),
        row("lwf", [0.50, 0.52, 0.51], 1.2, kept=0),
        row("naive", [0.40, 0.42, 0.41], 1.0, kept=0),
    )
    choice = choose(found.rows, KEEPS, TAGS)
    assert choice is not None
    assert [r.method for r in choice.for_less] == ["er", "lwf"]


def test_the_page_says_what_was_not_measured() -> None:
    rows = {ground: of for found in measured() for ground, of in found.rows.items()}
    whole, without = choosing(rows), choosing({"classes": rows["classes"]})
    assert all(f"| {case.says} |" in whole for case in CASES)
    missing = without.partition("## What was not measured")[2]
    assert all((f"- {case.says}." in missing) == (case.ground != "classes") for case in CASES)


def test_losses_are_better_when_lower() -> None:
    found = comparison(row("er", [3.0, 3.1, 3.0], 2.0, "lower"), row("ewc", [5.0, 5.2, 5.1], 1.0, "lower"))
    choice = choose(found.rows, KEEPS, TAGS)
    assert choice is not None
    assert choice.cheapest.method == "er"
    assert Cells.of(found.rows["g"][0]).average == "3.033 ± 0.143"


def test_the_picture_says_which_way_is_better_and_what_a_dot_is() -> None:
    right = comparison(row("er", [0.9, 0.8, 0.9], 2.0), row("ewc", [0.5, 0.5, 0.5], 14.0))
    lost = comparison(row("er", [3.0, 3.1, 3.0], 2.0, "lower"), row("ewc", [5.0, 5.2, 5.1], 1.0, "lower"))
    for found, says in ((right, "Better is up (more is right)"), (lost, "Better is down (less loss)")):
        assert f"{says} and to the left (less is forgotten)." in picture(found, "g")
        assert says in page(found)
        assert "Area: time, as a multiple of plain training&#x27;s." in picture(found, "g")
        assert ">replay<" in picture(found, "g")
    broken = Row("lwf", Setting(), None, (Found(0.9), Found(failed="exploded"), Found(0.9)), 1.0)
    assert "Diverged, and without a dot: lwf." in picture(comparison(WHOLE.rows["g"][1], broken), "g")


def test_ids_of_a_page_are_unique_whatever_grounds_are_called() -> None:
    rows = (row("er", [0.9, 0.8, 0.9], 2.0),)
    found = Comparison({"by store": "x", "g": "y"}, {"by store": rows, "g": rows}, (0, 1, 2), (100,), 1)
    ids = re.findall(r' id="([^"]+)"', page(found))
    assert len(set(ids)) == len(ids) == 8
    assert not any(" " in each for each in ids)


def test_methods_that_a_ground_did_not_try_are_named() -> None:
    rows = {"g": (row("er", [0.9, 0.8, 0.9], 2.0),), "h": (row("er+lwf", [0.9, 0.8, 0.9], 2.0),)}
    said = markdown(comparison(*rows["g"]), methods=known(rows))
    assert "Not tried here: `a_gem`, " in said
    assert "`er+lwf`" in said
    assert "`er`," not in said
    assert "Not tried" not in markdown(comparison(*rows["g"]))
    count = len(known(rows))
    assert f"- g, on which 1 of {count} were tried: `a_gem`" in choosing(rows)


def test_a_comparison_comes_back_from_its_json_and_is_shown() -> None:
    again = read(json.loads(json.dumps(WHOLE.to_json(), allow_nan=False)))
    assert again.to_json() == WHOLE.to_json()
    assert "`clr` is left out: no convolution." in markdown(again)
    assert "<svg" in page(again)
    assert ">er<" in picture(again, "g")
    assert ">clr<" not in picture(again, "g")


def test_what_diverged_is_no_choice() -> None:
    broken = Row("er", Setting(), None, (Found(0.9), Found(failed="exploded"), Found(0.9)), 1.0)
    choice = choose(comparison(row("ewc", [0.9, 0.9, 0.9], 2.0), broken).rows, KEEPS, TAGS)
    assert choice is not None
    assert (choice.best.method, choice.as_good) == ("ewc", ())


def test_what_cannot_be_told_from_the_best_is_said_below_the_table() -> None:
    rows = WHOLE.rows["g"]
    assert verdict(rows) == "The best alone: joint (95%, paired over seeds)."
    assert verdict(rows[1:]) == "Cannot be told from the best, er: ewc (95%, paired over seeds)."
    assert verdict(rows[1:]) in markdown(comparison(*rows[1:]))
    assert verdict(rows[1:]) in page(comparison(*rows[1:]))
    assert verdict(rows[:1]) == ""
    assert verdict((row("er", [0.9, 0.8], 1.0), row("ewc", [0.1, 0.2], 1.0))) == ""


def test_fewer_than_three_seeds_have_no_interval() -> None:
    assert Cells.of(row("er", [0.9, 0.8], 1.0)).average == "85.0"
    assert "±" not in markdown(Comparison({"g": "x"}, {"g": (row("er", [0.9, 0.8], 1.0),)}, (0, 1), (100,), 1))


def test_columns_have_units() -> None:
    assert heads(WHOLE.rows["g"])[:4] == ["method", "average, %", "forgetting, %", "steps"]
    assert heads([row("er", [3.0], 1.0, "lower")])[1] == "average, nats"


def test_names_of_files_keep_their_case() -> None:
    found = Comparison({"g": "may.csv: 5 tasks"}, {"g": WHOLE.rows["g"]}, (0, 1, 2), (100,), 1)
    assert "\nmay.csv: 5 tasks." in markdown(found)


def test_half_a_t_interval() -> None:
    assert reach([1.0, 2.0, 3.0], 0.95) == pytest.approx(4.302653 / math.sqrt(3))
    assert reach([1.0, 2.0, 3.0], 0.90) == pytest.approx(2.919986 / math.sqrt(3))
    assert math.isnan(reach([1.0], 0.95))
    assert math.isnan(reach([1.0, math.nan], 0.95))


def test_families_are_named_by_tags() -> None:
    assert {tag for tags in FAMILIES.values() for tag in tags} <= MEANING.keys()


def test_the_shipped_comparison_says_its_steps() -> None:
    for found in measured():
        for rows in found.rows.values():
            steps = {row.method: row.steps for row in rows if not row.refused}
            assert steps[BASELINE] == 1.0
            assert all(map(math.isfinite, steps.values()))
