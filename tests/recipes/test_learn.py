"""An update from end to end: what it chooses, what it remembers, what the next one makes of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from regraft.cli import runs
from regraft.cli.updates import Request, run
from regraft.core.errors import RegraftError
from regraft.recipes.adoption import adopt
from regraft.recipes.readings import evidence
from regraft.recipes.texts import Text
from regraft.store import Line, Version
from regraft.worlds import llama

WORDS = {"first": "red green blue grey", "second": "one two three four", "third": "sun moon star sky"}
KNOBS = {"tokens": 640, "batch_tokens": 64, "context": 16, "lr": 1e-2}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    dice = random.Random(0)
    for name, words in WORDS.items():
        rows = [{"text": " ".join(dice.choices(words.split(), k=12)), "source": f"{name}{i % 2}"} for i in range(150)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [{"prompt": "red", "choices": [" green", " two"], "answer": 0, "tags": ["colour"]} for _ in range(1)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    tokenizer = llama.bpe(WORDS.values(), 300)
    llama.save(llama.llama(tokenizer, width=16, depth=1, heads=2, context=16), tmp_path / "model")
    return adopt(str(tmp_path / "model"), tmp_path / "line")[0]


def learn(line: Line, text: str, *, unprotected: bool = False, suites: tuple[str, ...] = (), **knobs: Any) -> Version:
    folder = line.path.parent
    request = Request(
        target=str(line.path),
        data=[str(folder / f"{text}.jsonl")],
        knobs=KNOBS | knobs,
        suites=[str(folder / f"{name}.jsonl") for name in suites],
        unprotected=unprotected,
    )
    version = run(line, request, quiet=True)
    assert version is not None
    return version


def fitted(version: Version) -> dict[str, Any]:
    return next(call for call in version.record["calls"] if "fit" in call)


def test_the_line_knows_the_past_and_replays_it(line: Line) -> None:
    with pytest.raises(RegraftError, match="does not know what the model was trained on"):
        learn(line, "first")
    first = learn(line, "first", unprotected=True)
    second = learn(line, "second", replay=0.25)
    roles = {(use.role, use.corpus) for use in second.corpora}
    assert {role for role, _ in roles} == {"new", "replay"}
    assert ("replay", first.corpora[0].corpus) in roles
    assert list(evidence(second)["after"]) == ["first", "second"]
    curve = evidence(second)["curve"]
    assert {"held/old", "held/new", "nll@old", "nll@new"} <= set(curve[-1])
    row = next(iter(line.rows_of(first))).row
    assert {t.version for t in line.versions_of(row)} >= {first.id, second.id}


def test_held_out_documents_touch_no_version(line: Line) -> None:
    version = learn(line, "first", unprotected=True, tokens=64_000)
    touched = {use.row for use in line.rows_of(version)}
    held = set(evidence(version)["after"]["first"]["ids"])
    assert held
    assert not touched & held


def test_the_infinite_schedule_goes_on_from_before_its_annealing(line: Line) -> None:
    first = learn(line, "first", unprotected=True, schedule="infinite")
    assert {"trunk", "trunk/optimizer"} <= set(first.bundles)
    second = learn(line, "second", replay=0.25, schedule="infinite")
    assert fitted(second)["from_trunk"]
    rates = [r["lr"] for r in evidence(second)["curve"] if "lr" in r]
    assert rates[0] == pytest.approx(1e-2 * 0.55)
    rewarmed = learn(line, "third", replay=0.25)
    assert not fitted(rewarmed)["from_trunk"]


def test_what_parts_leave_reaches_the_next_update(line: Line) -> None:
    with pytest.raises(RegraftError, match="gradient_norms"):
        learn(line, "first", unprotected=True, schedule="refined")
    learn(line, "first", unprotected=True, gradients=["gradient_norms"])
    assert line.runs() == []
    assert "fit" in fitted(learn(line, "second", replay=0.25, schedule="refined"))


def test_questions_are_asked_again_of_later_versions(line: Line) -> None:
    learn(line, "first", unprotected=True, suites=("items",))
    later = learn(line, "second", replay=0.25)
    assert "items" in evidence(later)["before"]
    assert evidence(later)["after"]["items"]["unit"] == "correct"


def test_sources_have_shares(line: Line) -> None:
    learn(line, "first", unprotected=True)
    version = learn(line, "second", replay=0.25, shares={"second0": 0.75, "second1": 0.25})
    feeds = fitted(version)["fit"]["Plan"]["feeds"]
    shares = {f["Feed"]["name"]: f["Feed"]["share"] for f in feeds}
    assert shares == pytest.approx({"second0": 0.5625, "second1": 0.1875, "old": 0.25})
    with pytest.raises(RegraftError, match="no source 'second9'"):
        learn(line, "third", shares={"second9": 1.0})


def test_the_same_update_is_the_same_version(line: Line) -> None:
    first = learn(line, "first", unprotected=True)
    line.rollback("v1")
    assert learn(line, "first", unprotected=True).id == first.id
    line.rollback("v1")
    assert learn(line, "first", unprotected=True, seed=1).id != first.id


def test_a_strong_shift_asks_for_more_replay(line: Line) -> None:
    learn(line, "first", unprotected=True, tokens=20_000)
    second = learn(line, "second")
    assert evidence(second)["why"][0].startswith("replay     25%")


def test_no_later_text_trains_on_what_an_earlier_one_holds_out(line: Line) -> None:
    folder = line.path.parent
    dice = random.Random(1)
    more = [{"text": " ".join(dice.choices(["red", "green", "blue", "one", "two"], k=12))} for _ in range(2000)]
    both = (folder / "first.jsonl").read_text() + "".join(json.dumps(row) + "\n" for row in more)
    (folder / "bigger.jsonl").write_text(both)
    first = learn(line, "first", unprotected=True)
    held = set(evidence(first)["after"]["first"]["ids"])
    bigger = learn(line, "bigger", replay=0.25, tokens=80_000)
    assert not held & {use.row for use in line.rows_of(bigger)}
    trained = {use.row for use in line.rows_of(first)}
    assert not trained & set(evidence(bigger)["after"]["bigger"]["ids"])


def test_two_texts_of_one_name_have_two_suites_and_the_shift_its_sign(line: Line) -> None:
    folder = line.path.parent
    learn(line, "first", unprotected=True, tokens=20_000)
    (folder / "first.jsonl").write_text((folder / "second.jsonl").read_text())
    second = learn(line, "first")
    assert list(evidence(second)["after"]) == ["first", "first-2"]
    assert evidence(second)["why"][0].startswith("replay     25%")


def test_what_a_text_holds_out_stays_the_same_in_later_updates(line: Line) -> None:
    rows = (line.path.parent / "first.jsonl").read_text().splitlines(keepends=True)
    (line.path.parent / "part.jsonl").write_text("".join(rows[:60]))
    learn(line, "first", unprotected=True, tokens=64_000)
    part = learn(line, "part", replay=0.25)
    later = learn(line, "second", replay=0.25)
    trained = {use.row for version in (part, later) for use in line.rows_of(version)}
    trained |= {use.row for use in line.rows_of(line.version("v2"))}
    for name, reading in evidence(part)["after"].items():
        assert evidence(later)["after"][name]["fingerprint"] == reading["fingerprint"]
    assert not trained & {row for reading in evidence(later)["after"].values() for row in reading["ids"]}


def test_a_suite_keeps_its_name(line: Line) -> None:
    folder = line.path.parent
    (folder / "again").mkdir()
    (folder / "again/first.jsonl").write_text((folder / "second.jsonl").read_text())
    learn(line, "first", unprotected=True)
    both = learn(line, "again/first", replay=0.25, suites=("items",))
    assert set(evidence(both)["after"]) == {"first", "first-2", "items"}
    relearned = learn(line, "first", replay=0.25)
    for name, reading in evidence(both)["after"].items():
        assert evidence(relearned)["after"][name]["fingerprint"] == reading["fingerprint"]


def test_questions_named_like_a_text_take_a_free_name(line: Line) -> None:
    folder = line.path.parent
    (folder / "asked").mkdir()
    (folder / "asked/first.jsonl").write_text((folder / "items.jsonl").read_text())
    first = learn(line, "first", unprotected=True, suites=("asked/first",))
    assert evidence(first)["after"]["first-2"]["unit"] == "correct"
    later = learn(line, "second", replay=0.25, suites=("asked/first",))
    assert set(evidence(later)["after"]) == {"first", "second", "first-2"}


def test_sources_cost_no_padding_unless_a_sampler_asks_for_them(line: Line) -> None:
    path = line.path.parent / "first.jsonl"
    rows = [{**json.loads(row), "source": str(i)} for i, row in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = learn(line, "first", unprotected=True)
    blocks = fitted(first)["rows"]["new"]
    line.rollback(first.parents[0])
    apart = fitted(learn(line, "first", unprotected=True, sampler="temperature"))["rows"]["new"]
    assert 0 < blocks < 0.75 * apart


def test_there_must_be_something_left_to_learn(line: Line) -> None:
    learn(line, "first", unprotected=True)
    folder = line.path.parent
    texts = [json.loads(row) for row in (folder / "first.jsonl").read_text().splitlines()]
    lines = Text.open(line, line.corpora()[0]).held.line.tolist()
    only = [texts[number - 1] for number in lines]
    (folder / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in only))
    with pytest.raises(RegraftError, match="held: every document is held out to be measured, none is left to learn"):
        learn(line, "held", shares={"first0": 0.5, "first1": 0.5})
    rest = [{**row, "source": "rest"} for row in texts if row not in only]
    (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*only, *rest]))
    with pytest.raises(RegraftError, match=r"shares: every document of 2 sources is held out .*'first0', 'first1'"):
        learn(line, "mixed", shares={"first0": 0.25, "first1": 0.25, "rest": 0.5})


def test_no_branch_trains_on_what_another_holds_out(line: Line) -> None:
    folder = line.path.parent
    first = learn(line, "first", unprotected=True)
    held = set(evidence(first)["after"]["first"]["ids"])
    both = (folder / "first.jsonl").read_text() + (folder / "second.jsonl").read_text()
    (folder / "both.jsonl").write_text(both)
    line.rollback(first.parents[0])
    other = learn(line, "both", unprotected=True, tokens=64_000)
    assert held
    assert not held & {use.row for use in line.rows_of(other)}


def test_the_plan_tells_what_is_really_read(line: Line) -> None:
    for knobs in ({"tokens": 50, "batch_tokens": 1 << 20}, {"tokens": None, "epochs": 1e-9}, {"tokens": 1000}):
        version = learn(line, "first", unprotected=True, **knobs)
        said = next(why for why in evidence(version)["why"] if why.startswith("tokens"))
        assert int(said.split()[1].replace(",", "")) == evidence(version)["tokens"]
        line.rollback(version.parents[0])


def test_a_source_may_be_called_old(line: Line) -> None:
    learn(line, "first", unprotected=True)
    rows = [json.loads(row) for row in (line.path.parent / "second.jsonl").read_text().splitlines()]
    named = [{**row, "source": "old" if i % 2 else "code"} for i, row in enumerate(rows)]
    (line.path.parent / "named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    version = learn(line, "named", replay=0.25, shares={"old": 0.5, "code": 0.5})
    feeds = [f["Feed"]["name"] for f in fitted(version)["fit"]["Plan"]["feeds"]]
    assert sorted(feeds) == ["code", "old", "old (new)"]


def test_documents_that_all_weigh_nothing_are_refused(line: Line) -> None:
    rows = [json.loads(row) for row in (line.path.parent / "second.jsonl").read_text().splitlines()]
    weightless = "".join(json.dumps({**row, "weight": 0}) + "\n" for row in rows)
    (line.path.parent / "weightless.jsonl").write_text(weightless)
    with pytest.raises(RegraftError, match="weightless: every document weighs 0"):
        learn(line, "weightless", unprotected=True)


def test_an_order_that_is_given_again_can_be_resumed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.recipes.update import Update

    first = learn(line, "first", unprotected=True)
    line.rollback(first.parents[0])

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Update, "settle", stopped)
        with pytest.raises(KeyboardInterrupt):
            learn(line, "first", unprotected=True)
    [unfinished] = runs.unfinished(line)
    line.gc()
    assert runs.unfinished(line) == [unfinished]
    again = run(line, Request(target=str(line.path), data=[], knobs={}), resume=True, quiet=True)
    assert again is not None
    assert again.id == first.id


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"gradients": ["reptile"]}, "reptile would never act"),
        ({"schedule": "refined"}, "gradient_norms"),
        ({"schedule": "cooldown"}, "raises the rate to 5 times its peak"),
    ],
)
def test_the_plan_alone_refuses_what_the_run_would(line: Line, knobs: dict[str, Any], said: str) -> None:
    data = [str(line.path.parent / "first.jsonl")]
    request = Request(target=str(line.path), data=data, knobs=KNOBS | knobs, unprotected=True)
    with pytest.raises(RegraftError, match=said):
        run(line, request, plan_only=True, quiet=True)
    assert line.runs() == []
