"""How much of what is asked others hold."""

from __future__ import annotations

import random

import numpy as np
import pytest

from regraft.numerics.overlap import held


def texts(count: int, seed: int, low: int = 20, high: int = 40) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(500) for _ in range(dice.randrange(low, high))] for _ in range(count)]


def slowly(text: list[int], asked: list[int], n: int) -> float:
    own = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
    covered = {i + k for i in range(len(asked) - n + 1) if tuple(asked[i : i + n]) in own for k in range(n)}
    return len(covered) / len(asked) if len(asked) >= n else 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_it_is_the_part_of_the_tokens_that_lie_in_shared_runs(n: int) -> None:
    asked = texts(6, n, 1, 30)
    learned = texts(40, n + 1, 0, 90)
    learned += [asked[2] + asked[4], [*asked[1][:9], 999, *asked[1][9:]], asked[0][::-1], [7] * 30]
    assert held(learned, asked, n) == pytest.approx([max(slowly(t, q, n) for q in asked) for t in learned])


def test_planted_copies_are_found_and_what_is_clean_is_not() -> None:
    asked, clean = texts(200, 1), texts(2000, 2)
    planted = [[1, 2, 3, *q[2:], 4, 5] for q in asked]
    found = held([*clean, *planted], asked) > 0.5
    assert found[2000:].all()
    assert found[:2000].mean() < 0.02


def test_what_is_asked_of_all_shows_no_copy() -> None:
    instruction = list(range(1000, 1030))
    asked, clean = ([instruction + each for each in texts(100, seed)] for seed in (1, 2))
    assert held(clean, asked).max() < 0.5
    assert (held(asked, asked) == 1).all()


@pytest.mark.parametrize(("learned", "asked"), [([], [[1] * 9]), ([[1] * 9], []), ([[], [1]], [[], [1]]), ([], [])])
def test_nothing_and_short_texts(learned: list[list[int]], asked: list[list[int]]) -> None:
    assert held(learned, asked).tolist() == [0.0] * len(learned)


def test_many_texts_at_once_are_as_few() -> None:
    asked = texts(50, 1)
    learned = [q if i % 7 == 0 else t for i, (q, t) in enumerate(zip(asked * 30, texts(1500, 2), strict=True))]
    alone = np.concatenate([held(learned[i : i + 1], asked) for i in range(0, 1500, 50)])
    assert held(learned, asked)[::50].tolist() == alone.tolist()
