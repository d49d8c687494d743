"""`regraft methods`: the catalogue as it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regraft.recipes.resolve import no_strategy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


def test_tags_that_there_are_not(run: Any) -> None:
    _, err = run("methods", "--tag", "replai", code=2)
    assert err.startswith("regraft: no method has the tag 'replai'. Near it: replay, ")
    assert err.count(",") <= 5
    for said in ("", "replay,"):
        _, err = run("methods", "--tag", said, code=2)
        assert err.startswith("regraft: a tag is empty. Some of them: ")


def test_standings_are_explained_in_one_line(run: Any) -> None:
    out, _ = run("methods", "--tag", "replay")
    assert out.splitlines()[-1].startswith("standing: what measuring its claim came to")


def test_formulas_keep_their_lines(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.cli import catalogue

    facts = dict.fromkeys(("claim", "needs", "leaves", "differs", "measured", "headline"), "")
    facts |= {"name": "m", "kind": "loss", "formula": "x = " + "y + " * 80 + "y\nz", "standing": "shown"}
    monkeypatch.setattr(
        catalogue, "methods", lambda *_: catalogue._card({**facts, "papers": [], "knobs": []}, as_json=False)
    )
    out, _ = run("methods", "m")
    assert f"    x = {'y + ' * 80}y\n    z\n" in out


def test_a_part_is_no_strategy_and_says_who_uses_it() -> None:
    said = str(no_strategy("ewc"))
    assert said.startswith("ewc is a penalty, not a strategy. Strategies that use it: ")
    assert "online_ewc" in said
    assert str(no_strategy("erx")) == "no strategy 'erx'; did you mean 'er'. `regraft methods` lists them"
    assert str(no_strategy("learn")) == "learn is a recipe, not a strategy. `regraft methods` lists the strategies"
