"""Every pair of methods composes, and null knobs, where there are any, leave the other alone, or it says why not."""

from __future__ import annotations

import json

import pytest

from regraft.report.choosing import pairs
from regraft.worlds.pairs import PAIRED, PAIRS, RECORD, lasting, meet

SAID = json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_methods_together(pair: tuple[str, str]) -> None:
    found, name = meet(pair), "+".join(pair)
    said = SAID["pairs"][name], tuple(SAID["absent"].get(name, ()))
    assert found == said, "run: python -m regraft.worlds.pairs --jobs 2, then make docs"


def test_what_a_pair_is_held_to_follows_from_its_null_knobs() -> None:
    assert SAID["lasting"] == {name: why for name in PAIRED if (why := lasting(name))}
    for name, absent in SAID["absent"].items():
        assert set(absent) == set(name.split("+")) - SAID["lasting"].keys()


def test_nothing_diverges_in_a_small_world() -> None:
    assert not [why for why in SAID["pairs"].values() if "exploded" in why or "finite" in why]


def test_the_page_counts_every_pair() -> None:
    page, ways = pairs(SAID), [len(of) for of in SAID["absent"].values()]
    assert all(f"`{name}` |" in page for name in SAID["methods"])
    assert [page.count(mark) for mark in "○◐●"] == [2 * ways.count(n) + 1 for n in range(3)]
    said = f"both ways for {ways.count(2)} pairs", f"one way for {ways.count(1)}", f"not at all for {ways.count(0)}"
    assert all(each in page for each in said)
