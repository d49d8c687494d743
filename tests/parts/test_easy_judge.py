"""A judge of easy questions: what it learns from, and that nothing is heard of the hard ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.numerics.steps import ends_in, steps_of
from regraft.recipes.repairing import InMemory, Lesson, Workshop
from regraft.repairs.easy_judge import easy_judge, told
from regraft.worlds import chains, llama

EASY, HARD = ("1 steps",), ("2 steps",)
ENDS = (chains.STEP,)


@transform
def begins(rows: Rows, ctx: Context) -> Rows:
    """Right is what begins as the answer does: of ten, a model that nobody taught finds one now and then."""
    pairs = zip(rows["written"], rows["answer"], strict=True)
    return rows.having(reward=torch.tensor([float(said.strip()[:1] == right) for said, right in pairs]))


@transform
def always(rows: Rows, ctx: Context) -> Rows:
    return rows.having(reward=torch.ones(rows.count))


def workshop(lesson: Lesson | None = None) -> Workshop:
    model = llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=0)
    found = lesson or replace(chains.lesson(0, (1, 2), 8), judge=begins())
    return Workshop(model, found, Training(10, 16, 0.01, log_every=10), InMemory())


def learned(lesson: Lesson | None = None, **knobs: Any) -> tuple[Mapping[str, Tensor], Workshop]:
    w = workshop(lesson)
    easy_judge(**{"easy": EASY, "ends": ENDS, "least": 0.0, **knobs})(w)
    return {name: tensor.clone() for name, tensor in w.model.state().items()}, w


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_no_answer_to_a_hard_question_is_heard() -> None:
    lesson = workshop().lesson
    hard, shown = lesson.of(HARD), lesson.shown
    assert shown is not None
    nothing = ["?" if no else answer for answer, no in zip(lesson.items["answer"], hard.tolist(), strict=True)]
    unknown = replace(lesson, items=lesson.items.having(answer=nothing), shown=shown.where(~hard))
    first, w = learned()
    assert w.left == 0
    assert same(first, learned(unknown)[0])
    other = [answer if no else "?" for answer, no in zip(lesson.items["answer"], hard.tolist(), strict=True)]
    assert not same(first, learned(replace(lesson, items=lesson.items.having(answer=other)))[0])


def test_a_judge_that_knows_too_little_rewards_nothing() -> None:
    w = learned(least=1.0)[1]
    assert w.left == 10 - 2 - 3
    [said] = [note for note in w.doer.notes if note.startswith("left")]  # type: ignore[attr-defined]
    assert "nothing is reinforced" in said
    sure = replace(workshop().lesson, judge=always())
    [said] = [note for note in learned(sure, least=0.1)[1].doer.notes if note.startswith("left")]  # type: ignore[attr-defined]
    assert "no right and wrong answers" in said


def test_what_a_judge_is_told() -> None:
    w = workshop()
    easy = w.lesson.items.where(w.lesson.of(EASY))
    rows = told(w, easy, ENDS, 3)
    assert rows.count == easy.count * w.lesson.asking.copies
    whole = rows.having(counts=torch.ones_like(rows["counts"]))
    assert ((rows["counts"] > 0).sum(1) >= 1).all()
    last = torch.tensor([int(c.nonzero().max()) for c in rows["counts"]])
    at_end = whole["told"][torch.arange(rows.count), last]
    assert set(at_end.tolist()) <= {0.0, 1.0}, "of a whole answer what the checker says"
    ending = ends_in(w.model, ENDS)
    inside = (rows["counts"] > 0) & (torch.arange(rows["counts"].shape[1]) != last[:, None])
    assert ending[rows["targets"][inside]].all(), "of the others, where a step ends"
    assert (rows["told"] * 3)[inside].frac().abs().max() < 1e-5 or not inside.any()


def test_steps_of_odd_answers_are_told_too() -> None:
    w = workshop()
    one = w.lesson.items.take([0])
    w.lesson = replace(w.lesson, asking=w.lesson.asking._replace(copies=1, tokens=1))
    rows = told(w, one, ENDS, 1)
    assert rows.count == 1
    assert float(rows["counts"].sum()) == 1.0
    assert steps_of(
        Rows({"targets": rows["targets"], "counts": rows["counts"]}), ends_in(w.model, ENDS)
    ).counts.tolist() == [1]


@pytest.mark.parametrize(
    "knobs",
    [
        {"warm_up": -0.1},
        {"taught": 0.0},
        {"warm_up": 0.6, "taught": 0.4},
        {"K": 0},
        {"least": 1.1},
        {"easy": EASY + HARD},
        {"easy": ()},
    ],
)
def test_knobs_that_cannot_be(knobs: Any) -> None:
    with pytest.raises(RegraftError, match="easy_judge"):
        learned(**knobs)
