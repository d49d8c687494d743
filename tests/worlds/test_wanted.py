"""Texts in which a wanted letter is counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from regraft.worlds import wanted


def test_rewards_are_counts_beside_a_number_of_the_question() -> None:
    nobody: Any = None
    rows = wanted.items(3, 0).having(written=[" a b a", "", " c"], wanted=["a", "b", "a"])
    assert wanted.counted(levels=False)(rows, nobody)["reward"].tolist() == [2.0, 0.0, 0.0]
    levels = [wanted.LETTERS.index(prompt.split()[3]) for prompt in rows["prompt"]]
    assert wanted.counted()(rows, nobody)["reward"].tolist() == [2.0 + levels[0], levels[1], levels[2]]
    assert {len(ids) for ids in rows["prompt_ids"]} == {3 + wanted.BEFORE}
    assert wanted.items(3, 0)["prompt"] == wanted.items(3, 0)["prompt"] != wanted.items(3, 1)["prompt"]


def test_the_base_is_shown_the_want_now_and_then() -> None:
    dice = random.Random(0)
    texts = [wanted._text(dice, wanted.BEFORE + wanted.LENGTH, "h") for _ in range(500)]
    before, after = ("".join(text[part] for text in texts) for part in (slice(4), slice(4, None)))
    assert after.count("h") / len(after) > 0.3 > 0.2 > before.count("h") / len(before)


def test_answers_are_always_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "STEPS", 30)
    wanted._base.cache_clear()
    w = wanted.workshop(0, 2, 8, 0.01)
    tally = w.fit(w.reinforced()).memory["rollouts"]
    assert tally["tokens"].sum() >= 0.9 * wanted.LENGTH * tally["written"].sum()
    assert 0 <= wanted.share(w.model, 0, count=20) <= 100
    wanted._base.cache_clear()
