"""Trails: what a try says, traces with so many wrong tries, and what there is to learn from."""

from __future__ import annotations

import random

import torch

from regraft.recipes.answered import still
from regraft.worlds import llama, trails

PROMPT = "a3 b1 c0 d2 0C 1A 2D 3B toC ;"
ROW = {"prompt": PROMPT, "answer": "c", "tags": ["4 starts"]}


def test_a_try_follows_the_trail_and_says_whether_it_is_right() -> None:
    assert [trails.attempt(PROMPT, start) for start in "abcd"] == ["a 3 B no", "b 1 A no", "c 0 C yes", "d 2 D no"]


def test_traces_have_so_many_wrong_tries_and_end_right_or_wrong() -> None:
    for seed in range(20):
        for wrong in range(3):
            written = trails.trace(ROW, wrong, random.Random(seed))
            tries = trails.attempts(written)
            assert len(set(tries)) == len(tries) == wrong + 1
            assert written.endswith("c 0 C yes so c")
            assert written.count("no") == wrong
            false = trails.trace(ROW, wrong, random.Random(seed), right=False)
            assert "yes" not in false
            tries = trails.attempts(false)
            assert len(set(tries)) == len(tries) == wrong + 1
            assert false.endswith(f"no so {tries[-1][0]}")


def test_who_wanders_answers_with_what_was_found_or_tried_last() -> None:
    for seed in range(40):
        written = trails.wandering(ROW, random.Random(seed))
        tries = trails.attempts(written)
        assert len(set(tries)) == len(tries)
        assert written[-1] == ("c" if "yes" in written else tries[-1][0])


def test_attempts_are_what_ends_with_a_verdict() -> None:
    assert trails.attempts("") == []
    assert trails.attempts("a 3 B no no c 0 C yes c 0") == ["a 3 B", "", "c 0 C"]
    assert trails.attempts("a 3 B no so c no") == ["a 3 B"]


def test_wrong_tries_are_made_again() -> None:
    tries = trails.attempts(trails.trace(ROW, 3, random.Random(0), again=1.0))
    assert tries[:-1:2] == tries[1::2]
    assert len(set(tries)) == 4
    assert len(tries) == 7


def test_where_the_right_try_ends() -> None:
    for written, after in (
        ("c 0 C yes so c", 3),
        ("a 3 B no c 0 C yes c 0 C yes", 7),
        ("a 3 B c 0 C", 6),
        ("c 0 B", None),
        ("", None),
    ):
        assert trails.found_after(PROMPT, "c", written) == after


def test_questions_have_one_answer_and_every_word_is_a_token() -> None:
    for size in (trails.EASY, trails.HARD):
        for row in trails.items(size, 30, 0):
            right = [start for start in trails.STARTS[:size] if trails.attempt(row["prompt"], start).endswith("yes")]
            assert right == [row["answer"]]
            said = f"{row['prompt']} {trails.trace(row, 2, random.Random(0))}"
            ids = trails.tokenizer()(said)["input_ids"]
            assert len(ids) == len(said.split())
            assert trails.tokenizer().decode(ids) == said
    rows = trails.asked(trails.items(4, 3, 0))
    right = [f"a 3 B no so {answer}" for answer in rows["answer"]]
    model = llama.llama(trails.tokenizer(), width=16, depth=1, heads=2, context=trails.CONTEXT, seed=0)
    ctx = still(model, torch.Generator())
    assert trails.judge()(rows.having(written=right), ctx)["reward"].tolist() == [1.0] * 3
    assert trails.judge()(rows.having(written=["", "a", "so so"]), ctx)["reward"].tolist() == [0.0] * 3


def test_scores_of_a_model_that_knows_nothing() -> None:
    model = llama.llama(trails.tokenizer(), width=16, depth=1, heads=2, context=trails.CONTEXT, seed=0)
    found = trails.scores(model, 0, 8, count=3)
    assert set(found) == {"right", "tries", "different", "length"}
    assert found["right"] == 0.0
    w = trails.workshop(model, 0, (4, 8), 5, 1)
    assert w.lesson.items.count == 10
