"""Rewards of a checker; one that misbehaves costs its own row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_policy import context

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.parts.transforms.verified import verified


def scored(rows: dict[str, Any], **knobs: Any) -> Rows:
    found: Rows = verified(**knobs)(Rows(rows), context())
    return found


def test_exact_and_numeric_answers() -> None:
    rows = {"written": ["#### 7", "#### 8", "so 7", "#### seven"], "answer": ["7", ["7", "8"], "7", "7"]}
    worth = {"right": 1.0, "wrong": -0.5, "nothing": -1.0}
    assert scored(rows, marker="####", **worth)["reward"].tolist() == [1.0, 1.0, -1.0, -0.5]
    assert scored(rows, by="number", **worth)["reward"].tolist() == [1.0, 1.0, 1.0, -0.5]


def test_programs_that_pass_their_tests() -> None:
    good, bad = "def f(x): return x + 1", "def f(x): return x"
    rows = {"written": [good, bad, "", "while True: pass"], "tests": ["assert f(1) == 2"] * 4}
    found = scored(rows, by="tests", seconds=0.5, nothing=-1.0)
    assert found["reward"].tolist() == [1.0, 0.0, -1.0, 0.0]
    assert found["fault"] == ["", "", "", "ran longer than 0.5 s"]


def test_a_checker_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def reward(written, item):\n"
        "    if written == 'raise': raise KeyError('no')\n"
        "    if written == 'hang':\n        while True: pass\n"
        "    if written == 'print': print('x' * 10_000_000)\n"
        "    if written == 'fork': __import__('os').fork()\n"
        "    if written == 'net': __import__('socket').socket()\n"
        "    if written == 'nan': return float('nan')\n"
        "    return len(written) / item['longest']\n"
    )
    texts = ["abc", "raise", "hang", "print", "fork", "net", "nan", "é\u2028'\"\\n"]
    found = scored({"written": texts, "longest": [4] * 8}, by=str(path), seconds=0.5, wrong=-1.0)
    wanted = [0.75, -1.0, -1.0, 5 / 4, -1.0, -1.0, -1.0, len(texts[-1]) / 4]
    assert found["reward"].tolist() == wanted
    faults = found["fault"]
    assert [bool(fault) for fault in faults] == [False, True, True, False, True, True, True, False]
    assert "KeyError" in faults[1]
    assert "longer" in faults[2]
    assert "the reward is nan" in faults[6]


def test_a_checker_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RegraftError, match="by is 'guess'"):
        scored({"written": ["a"], "answer": ["a"]}, by="guess")
    with pytest.raises(RegraftError, match="cannot be read"):
        scored({"written": ["a"]}, by=str(tmp_path / "none.py"))
    with pytest.raises(RegraftError, match="no column 'answer'"):
        scored({"written": ["a"]})
