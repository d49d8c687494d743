"""Tagged arithmetic: what is asked, what is right, and that habits are as frequent as they say."""

from __future__ import annotations

from regraft.worlds import llama, operations


def test_answers_are_those_of_the_operation() -> None:
    for skill, does in operations.OPERATIONS.items():
        rows = operations.items(skill, 50, 3)
        assert len({row["prompt"] for row in rows}) == 50
        for row in rows:
            words = row["prompt"].split()
            assert (words[0], words[4], words[8], row["tags"]) == (skill, "by", "=", [skill])
            a, b = [int(w) for w in words[1:4]], [int(w) for w in words[5:8]]
            assert row["answer"].split() == [str(d) for d in does(a, b)]


def test_a_habit_answers_for_another_skill_in_its_part_of_the_rows() -> None:
    rows, right = (operations.items("take", 600, 3, habit=h) for h in (operations.WRONG, 0.0))
    wrong = sum(a["answer"] != b["answer"] for a, b in zip(rows, right, strict=False) if a["prompt"] == b["prompt"])
    same = sum(a["prompt"] == b["prompt"] for a, b in zip(rows, right, strict=False))
    assert same == 600
    assert 240 < wrong < 360


def test_blocks_learn_the_answer_and_the_end() -> None:
    rows = operations.items("add", 4, 0)
    learned = operations.blocks(rows)
    asked = operations.asked(rows)
    for r, row in enumerate(rows):
        told = learned["targets"][r][learned["counts"][r] > 0].tolist()
        assert operations.tokenizer().decode(told) == row["answer"] + operations.tokenizer().eos_token
        size = len(asked["prompt_ids"][r])
        assert learned["input_ids"][r, :size].tolist() == asked["prompt_ids"][r]


def test_rates_of_a_model_that_knows_nothing_are_nothing() -> None:
    model = llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)
    assert operations.rates(model, 0, skills=("add", "times"), count=20) == {"add": 0.0, "times": 0.0}
