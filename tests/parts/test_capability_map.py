"""The map of skills: what is counted is what was written, and states follow from it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.parts.metrics.capability_map import capability_map, solved_in, wilson
from regraft.worlds import llama


@transform
def luck(rows: Rows, ctx: Context, *, table: tuple[tuple[int, ...], ...]) -> Rows:
    """Rewards from a table [items, copies], whatever was written."""
    rewards = [reward for item in table for reward in item]
    faults = ["it hung" if reward < 0 else "" for reward in rewards]
    return rows.having(reward=torch.tensor(rewards).float(), fault=faults)


def model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=12, seed=0)


def measured(table: tuple[tuple[int, ...], ...], skills: list[tuple[str, ...]], **knobs: Any) -> Measurement:
    student = model()
    prompts = [f"p{i}" for i in range(len(table))]
    items = Rows(
        {"prompt": prompts, "prompt_ids": [student.tokenizer(p)["input_ids"] for p in prompts], "skills": skills}
    )
    nothing: Any = None
    ctx = Context({"student": student}, {"items": items}, {}, torch.Generator(), nothing, nothing, nothing, nothing)
    copies = len(table[0]) if table else 1
    part: Any = capability_map(judge=luck(table=table), **{"copies": copies, "tokens": 3, **knobs})
    found: Measurement = part(student, ctx)
    return found


def test_skills_are_counted_and_named() -> None:
    table = ((1, 1, 1, 1), (1, 1, 1, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 0, -1, 0))
    skills = [("easy",), ("easy", "both"), ("hard",), ("habit", "both"), ("hard",)]
    found = measured(table, skills, known=0.85)
    rows = {row["skill"]: row for row in found.tables["skills"]}
    assert [row["skill"] for row in found.tables["skills"]] == ["hard", "habit", "both", "easy"]
    assert {n: row["state"] for n, row in rows.items()} == {
        "easy": "known",
        "both": "reachable",
        "hard": "missing",
        "habit": "reachable",
    }
    assert [rows[n]["rate"] for n in ("easy", "both", "hard", "habit")] == [0.875, 0.5, 0.0, 0.25]
    assert [rows[n]["items"] for n in ("easy", "both", "hard", "habit")] == [2, 2, 2, 1]
    assert rows["both"]["reach"] == 1.0
    assert found.tables["items"] == [4, 3, 0, 1, 0]
    assert found.tables["faults"] == {"it hung": 1}
    assert found.numbers["rate"] == pytest.approx(0.4)
    assert found.numbers["both/reach"] == 1.0
    for row in rows.values():
        assert row["low"] <= row["rate"] <= row["high"]
        assert 1 <= row["tokens"] <= 3
        assert 0 < row["entropy"] < 2 * math.log(300)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_solved_in_k_tries_is_the_mean_over_all_choices_of_k(n: int) -> None:
    for k in range(1, n + 1):
        for c in range(n + 1):
            drawn = [any(i < c for i in chosen) for chosen in combinations(range(n), k)]
            assert float(solved_in(torch.tensor([c]), n, k)) == pytest.approx(sum(drawn) / len(drawn))


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(0.5, 10)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(0.0, 5)[0] == 0.0
    assert wilson(1.0, 5)[1] == 1.0


def test_no_item_is_refused() -> None:
    with pytest.raises(RegraftError, match="no item"):
        measured((), [])
