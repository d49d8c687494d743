"""Answers are found and compared exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest

from regraft.numerics.sandbox import Limits, Sandbox
from regraft.numerics.verify import Verdict, answer, code, exact, number, numeric, programs


@pytest.mark.parametrize(
    ("written", "marker", "found"),
    [
        ("  forty two \n", None, "forty two"),
        ("   ", None, None),
        ("so it is #### 7\nand more", "####", "7"),
        ("#### 6 no, #### 7", "####", "7"),
        ("no marker", "####", None),
        ("####  \n", "####", None),
        ("Answer:\n  12 apples\n", "Answer:", "12 apples"),
        (r"thus \boxed{\frac{1}{2}} holds", "\\boxed{", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{ 2 }", "\\boxed{", "2"),
        (r"\boxed{1", "\\boxed{", None),
    ],
)
def test_the_answer_of_a_text(written: str, marker: str | None, found: str | None) -> None:
    assert answer(written, marker) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("it is -3.50.", Fraction(-7, 2)),
        ("$1,234,567.5", Fraction(2469135, 2)),
        ("7/8", Fraction(7, 8)),
        ("-7 / 8", Fraction(-7, 8)),
        ("12 %", Fraction(3, 25)),
        ("6e-3", Fraction(3, 500)),
        (".5", Fraction(1, 2)),
        ("1, 2, 3", Fraction(3)),
        ("5 apples and 6 pears", Fraction(6)),
        ("12kg", Fraction(12)),
        ("a 3rd of 9", Fraction(9)),
        ("x2", None),
        ("7/0", None),
        ("3 7/0", Fraction(3)),
        ("none", None),
        ("", None),
        ("1e999999999", None),
        ("9" * 10_000, None),
        ("1.2.3", None),
    ],
)
def test_the_last_number_of_a_text(text: str, value: Fraction | None) -> None:
    assert number(text) == value


def test_exact_answers() -> None:
    assert exact(" new  york\n", ["New York", "new york"]).right
    assert exact("Paris", ["paris"], fold=True) == Verdict(True, "Paris")
    assert exact("Paris", ["paris"]) == Verdict(False, "Paris", "another answer")
    assert exact("", ["paris"]) == Verdict(False, None, "no answer")
    assert exact("A: B", ["B"], marker="A:").right


def test_numeric_answers() -> None:
    assert numeric("so 0.5", ["1/2"]).right
    assert numeric("50%", ["0.5"]).right
    assert numeric("0.3333333", ["1/3"]).right
    assert not numeric("0.333", ["1/3"]).right
    assert numeric("0.333", ["1/3"], tolerance=0.01).right
    assert numeric("0", ["0"], tolerance=0.0).right
    assert numeric("7 is not it #### 8", ["8"], marker="####").right
    assert numeric("words", ["8"]) == Verdict(False, "words", "no number")
    assert numeric("7", ["no number", "8"]) == Verdict(False, "7", "another number")


def test_programs_and_their_tests() -> None:
    good, bad = "def f(x):\n    return x + 1", "def f(x):\n    return x"
    fenced = f"Here it is:\n```python\n{bad}\n```\nNo:\n```python\n{good}\n```\n"
    assert code(fenced) == good
    assert code("```\nopen at the end") == "open at the end"
    tests = ["assert f(1) == 2"] * 5
    with Sandbox(Limits(seconds=1.0)) as sandbox:
        found = programs([good, fenced, bad, "", "while True: pass"], tests, sandbox)
    assert [verdict.right for verdict in found] == [True, True, False, False, False]
    assert [verdict.why for verdict in found][2:] == ["AssertionError: ", "no program", "ran longer than 1 s"]
