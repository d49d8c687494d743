"""Chains of arithmetic: their solutions, the first step that is wrong, and what there is to learn from."""

from __future__ import annotations

import random

import torch

from regraft.worlds import chains

PROMPT = " add 3 most 4 take 2 . . . . . . to 7 ;"


def test_a_solution_says_what_each_step_comes_to() -> None:
    assert chains.values(PROMPT) == [0, 4, 2]
    assert chains.solution([0, 4, 2]) == " 0 ; 4 ; 2 ; so 2"
    slips = {tuple(chains.values(PROMPT, random.Random(seed))) for seed in range(40)}
    assert slips == {(0, 4, 2), (0, 4, 6)}, "0 + 4 is 4 as well"


def test_the_first_step_that_is_wrong() -> None:
    for written, place in (
        (" 0 ; 4 ; 2 ; so 2", None),
        (" 0 ; 4 ; 6 ; so 2", 2),
        (" 1 ; 4 ; 2 ; so 2", 0),
        (" 0 ; 4 ; 2 ; so 3", 3),
        (" 0 ; 4 ; so 2", 2),
        (" 0 ; 4 ; 2 ; 2 ; so 2", 3),
        (" 0 ; 4 ; 2 ; so 2 ; so 2", 4),
        (" 0 4 ; 2 ; so 2", 0),
        ("", 0),
    ):
        assert chains.first_wrong(PROMPT, written) == place, written


def test_questions_are_of_one_length_and_demonstrations_answer_them() -> None:
    lesson = chains.lesson(0, (1, 6), 5, shown=(6,))
    assert {len(ids) for ids in lesson.items["prompt_ids"]} == {2 * chains.MOST + 3}
    assert lesson.items["difficulty"].tolist() == [1] * 5 + [6] * 5
    assert lesson.shown is not None
    assert lesson.shown["item"].tolist() == [5, 6, 7, 8, 9]
    assert lesson.shown["row"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(lesson.shown["counts"].sum(1), torch.full((5,), float(chains.TOKENS)))
    ids = lesson.shown["targets"][0][lesson.shown["counts"][0] > 0].tolist()
    text = chains.tokenizer().decode(ids, skip_special_tokens=True)
    assert text == chains.solution(chains.values(lesson.items["prompt"][5]))
    assert chains.lesson(0, (2,), 3, shown=()).shown is None
