"""The household: what can be done and what it leads to, which plans are right, and that answers are the simulator's."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from regraft.worlds import household, llama
from regraft.worlds.household import AGENTS, BOX, OBJECTS, ROOMS, Errand, after, possible, room_of

HOME = {"tom": "hall", "ann": "attic", BOX: "garden", "cup": "hall", "book": "attic", "key": "garden"}


def test_what_is_taken_goes_along_and_what_is_boxed_stays() -> None:
    state = HOME
    for action in (("tom", "takes", "cup"), ("tom", "goes", "garden")):
        assert action in possible(state)
        state = after(state, action)
    assert (state["cup"], room_of(state, "cup")) == ("tom", "garden")
    state = after(after(state, ("tom", "boxes", "cup")), ("tom", "goes", "attic"))
    assert (state["cup"], room_of(state, "cup")) == (BOX, "garden")
    assert after(after(HOME, ("tom", "takes", "cup")), ("tom", "drops", "cup")) == HOME


def test_only_what_is_here_and_with_nobody_can_be_taken_and_only_what_one_has_be_dropped() -> None:
    assert set(possible(HOME, ["tom"])) == {
        *(("tom", "goes", room) for room in ROOMS if room != "hall"),
        ("tom", "takes", "cup"),
    }
    held = {**HOME, "ann": "hall", "cup": "ann"}
    assert ("tom", "takes", "cup") not in possible(held)
    assert ("ann", "boxes", "cup") not in possible(held)
    assert ("ann", "boxes", "cup") in possible({**held, BOX: "hall"})
    assert ("tom", "takes", "cup") in possible({**HOME, BOX: "hall", "cup": BOX})


@pytest.mark.parametrize(
    ("plan", "right"),
    [
        (" goes attic takes book goes garden boxes book", True),
        (" takes cup goes attic takes book goes garden boxes book", True),
        (" goes attic takes book goes garden drops book", False),
        (" takes book goes garden boxes book", False),
        (" goes attic takes book goes garden boxes", False),
        (" goes moon", False),
        ("", False),
    ],
)
def test_a_plan_is_right_if_it_can_be_carried_out_and_ends_where_it_should(plan: str, right: bool) -> None:
    assert Errand("tom", "book", BOX).done_by(HOME, plan) is right


def test_answers_are_those_of_the_simulator() -> None:
    asked = household.questions(3, 40, moved=1.0)
    for question in asked["tracking"]:
        words = question.prompt.split()
        state = dict(zip(words[0:10:2], words[1:10:2], strict=True)) | {BOX: "nowhere"}
        thing, was = words[-1], words[words.index(words[-1]) + 1]
        for i in range(11, 11 + 3 * household.TRACKED, 3):
            state = dict(after(state, (words[i], words[i + 1], words[i + 2])))
        if state[thing] != BOX:
            assert question.answer.split() == [room_of(state, thing)]
        assert question.right(question.answer)
        assert not question.right(f" {was}")
    for question in asked["counting"]:
        words = question.prompt.split()
        had = [words[i + 1] for i in range(0, 3 * household.COUNTED, 3) if words[i] == words[-1]]
        number = had.count("takes") - had.count("drops") - had.count("boxes")
        assert question.answer.split() == [household.NUMBERS[number]]
    for plan, activity in zip(asked["plan"], asked["activity"], strict=True):
        assert plan.right(plan.answer)
        assert not plan.right("")
        assert plan.prompt.split()[-3:-1] == activity.answer.split()
        assert plan.answer in activity.prompt


def test_questions_are_the_same_by_seed_and_none_is_longer_than_the_context() -> None:
    one, other = (household.questions.__wrapped__(seed, 20) for seed in (5, 6))
    again = household.questions.__wrapped__(5, 20)
    assert [q.prompt for q in one["plan"]] == [q.prompt for q in again["plan"]] != [q.prompt for q in other["plan"]]
    longest = max(len(f"{q.prompt}{q.answer}".split()) for asked in one.values() for q in asked)
    assert longest < household.CONTEXT
    moved = household.tracking(random.Random(0), moved=1.0)
    assert {*moved.prompt.split()} <= {*ROOMS, *AGENTS, *OBJECTS, *household.VERBS, *household.ASKS}


def test_general_text_says_pairs_again_and_follows_its_table() -> None:
    text = household.general(4, 50)
    said = household.tokenizer().batch_decode(torch.cat([text["input_ids"], text["targets"][:, -1:]], 1))
    follows: dict[str, set[str]] = {}
    again = 0
    for line in said:
        words = line.split("<|end|>")[0].split()
        if mark := next((word for word in words if word in household.MARKS), None):
            at, again = words.index(mark), again + 1
            halves = (words[:at], words[at + 1 :])
            one, two = ({*zip(half[::2], half[1::2], strict=True)} for half in halves)
            assert one == two
        else:
            assert len(words) == household.SENTENCE
            for word, next_word in itertools.pairwise(words):
                follows.setdefault(word, set()).add(next_word)
    assert again == 40
    assert max(map(len, follows.values())) <= len(household.FOLLOW)
    assert not torch.equal(text["input_ids"], household.general(4, 50, held=True)["input_ids"])


def test_a_model_that_knows_nothing_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(household, "TESTED", 20)
    model = llama.llama(household.tokenizer(), width=16, depth=1, heads=2, context=household.CONTEXT, seed=0)
    assert household.rates(model, 0) == {"tracking": 0.0, "counting": 0.0, "plan": 0.0, "activity": 0.0}
