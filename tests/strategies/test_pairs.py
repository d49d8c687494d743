"""Every pair of methods composes, and null knobs leave the other alone bit for bit, or it says why not."""

from __future__ import annotations

import json

import pytest

from regraft.report.choosing import pairs
from regraft.worlds.pairs import PAIRS, RECORD, meet

SAID = json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_methods_together(pair: tuple[str, str]) -> None:
    assert meet(pair) == SAID["pairs"]["+".join(pair)], "run: python -m regraft.worlds.pairs --jobs 2, then make docs"


def test_the_page_has_every_pair() -> None:
    page = pairs(SAID)
    assert all(f"`{name}` |" in page for name in SAID["methods"])
    assert page.count("●") == 2 * sum(not why for why in SAID["pairs"].values()) + 1
