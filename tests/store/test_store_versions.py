"""Versions, pointers, rollback, drop, gc: what is named stays, what is needed cannot go."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store import Draft, Line, TensorRef, Version
from regraft.store.documents import seal


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.create(tmp_path / "line", about={"model": "tiny"})


def weights(line: Line, seed: int, names: str = "ab") -> dict[str, TensorRef]:
    dice = torch.Generator().manual_seed(seed)
    return {name: line.put_tensor(torch.randn(8, generator=dice)) for name in names}


def commit(line: Line, seed: int, *parents: Version, run: str | None = None) -> Version:
    draft = Draft(
        parents=tuple(parent.id for parent in parents),
        bundles={"release": weights(line, seed)},
        files={"config.json": line.put_json({"layers": 2})},
        record={"seed": seed},
        evidence={"loss": 1.5},
        message=f"update {seed}",
    )
    return line.commit(draft, {"seconds": time.time()}, run=run)


def stored(line: Line) -> set[str]:
    return set(line.blobs.present())


def test_a_line_is_created_whole_in_a_new_or_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Line.create(tmp_path / "empty", about={"x": [1]}).about == {"x": [1]}
    with pytest.raises(RegraftError, match="already a line"):
        Line.create(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(RegraftError, match="not empty"):
        Line.create(tmp_path / "full")
    with pytest.raises(RegraftError, match="no line here"):
        Line.open(tmp_path / "full")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full"]
    assert not Line.is_line(tmp_path / "absent")


def test_a_newer_format_is_refused(line: Line) -> None:
    (line.path / "regraft.json").write_bytes(seal({"format": 2, "something": "new"}))
    with pytest.raises(RegraftError, match=r"format 2.*Upgrade") as caught:
        Line.open(line.path)
    assert caught.value.exit_code == 2


def test_a_version_comes_back_whole(line: Line) -> None:
    first = commit(line, 1)
    second = commit(line, 2, first)
    again = Line.open(line.path)
    assert [v.id for v in again.versions()] == [first.id, second.id]
    version = again.version("head")
    assert version == second
    assert (version.name, version.parents, version.message) == ("v2", (first.id,), "update 2")
    assert version.record == {"seed": 2}
    assert version.evidence == {"loss": 1.5}
    assert again.json(version.files["config.json"]) == {"layers": 2}
    loaded = again.load(version)
    dice = torch.Generator().manual_seed(2)
    assert all(torch.equal(loaded[name], torch.randn(8, generator=dice)) for name in "ab")
    assert list(again.load("v1", names=["b"])) == ["b"]


def test_load_says_what_there_is(line: Line) -> None:
    commit(line, 1)
    with pytest.raises(RegraftError, match=r"no bundle 'master'.*release"):
        line.load("head", "master")
    with pytest.raises(RegraftError, match=r"no tensor 'aa'.*a"):
        line.load("head", names=["a", "aa"])


def test_an_id_hangs_on_content_alone(tmp_path: Path) -> None:
    ids = []
    for place, order in (("one", "ab"), ("two", "ba")):
        line = Line.create(tmp_path / place)
        names = weights(line, 1, "ab")
        bundles = {"release": {n: names[n] for n in order}, "master": {n: names[n] for n in reversed(order)}}
        bundles = bundles if place == "one" else dict(reversed(bundles.items()))
        ids.append(line.commit(Draft(bundles=bundles, record={"a": (1, 2)}), {"host": place}).id)
    assert ids[0] == ids[1]


def test_the_same_content_is_the_same_version(line: Line) -> None:
    first = commit(line, 1)
    events = len(line.events())
    assert commit(line, 1) == first
    assert (len(line.versions()), len(line.events())) == (1, events)
    second = commit(line, 2, first)
    line.rollback("v1")
    assert commit(line, 2, first) == second
    assert line.version("head") == second
    assert len(line.versions()) == 2


@pytest.mark.parametrize("part", ["parents", "bundles", "files", "record", "evidence", "message"])
def test_every_part_of_the_content_changes_the_id(line: Line, part: str) -> None:
    base = commit(line, 0)
    ref = weights(line, 1)
    change = {
        "parents": (base.id,),
        "bundles": {"release": {"a": ref["b"]}},
        "files": {"x.json": line.put_json([])},
        "record": {"seed": 2},
        "evidence": {"loss": 2},
        "message": "other",
    }
    plain = {"bundles": {"release": {"a": ref["a"]}}}
    assert line.commit(Draft(**plain)) != line.commit(Draft(**{**plain, part: change[part]}))  # type: ignore[arg-type]


def test_a_commit_that_names_what_is_not_there_is_refused(line: Line) -> None:
    gone = "ab" * 32
    for draft in (
        Draft(parents=(gone,)),
        Draft(bundles={"release": {"a": TensorRef(gone, "float32", (1,), 4)}}),
        Draft(files={"config.json": gone}),
        Draft(files={"../config.json": line.put_json({})}),
        Draft(files={"/etc/passwd": line.put_json({})}),
        Draft(record={"x": float("nan")}),
    ):
        with pytest.raises(RegraftError):
            line.commit(draft)
    assert line.versions() == []
    assert line.pointers() == {}


def test_one_percent_of_the_tensors_costs_at_most_three_percent_of_the_disk(line: Line) -> None:
    tensors = {f"layer.{i}": torch.randn(16, 1024) for i in range(100)}
    first = line.commit(Draft(bundles={"release": {n: line.put_tensor(t) for n, t in tensors.items()}}))
    before = line.disk().total
    tensors["layer.7"] = tensors["layer.7"] + 1
    refs = {n: line.put_tensor(t) for n, t in tensors.items()}
    second = line.commit(Draft(parents=(first.id,), bundles={"release": refs}))
    use = line.disk()
    assert use.total - before <= 0.03 * before
    assert 16 * 1024 * 4 < use.own[second.id] < 0.03 * before


def test_versions_go_by_many_names(line: Line) -> None:
    first, second = commit(line, 1), commit(line, 2)
    line.point("released", first)
    for ref in (first.id, first.id[:4], "v1", "released", first):
        assert line.version(ref) == first
    for ref in ("head", "latest", "v2"):
        assert line.version(ref) == second
    line.rollback("v1")
    assert line.version("head") == first
    assert line.version("latest") == second


def test_a_wrong_name_lists_the_near_ones(line: Line) -> None:
    with pytest.raises(RegraftError, match="no versions yet"):
        line.version("head")
    line.point("released", commit(line, 1))
    with pytest.raises(RegraftError, match=r"'relased'.*released"):
        line.version("relased")
    for ref in ("v7", "abc", "0000", "v", "", "' OR 1=1", "*"):
        with pytest.raises(RegraftError, match="no version"):
            line.version(ref)


def test_an_ambiguous_prefix_lists_its_versions(line: Line) -> None:
    ids = [line.commit(Draft(record=number)).id for number in range(2)]
    with line.writing(), line.ledger.transaction() as image:
        image.execute("UPDATE versions SET id = ? WHERE id = ?", (ids[0][:8] + ids[1][8:], ids[1]))
    with pytest.raises(RegraftError, match=r"begins 2 versions.*v1.*v2"):
        line.version(ids[0][:6])


@pytest.mark.parametrize("name", ["head", "latest", "v3", "beef", "", "a b", "../x", "-x", "x" * 65])
def test_some_names_cannot_be_pointers(line: Line, name: str) -> None:
    version = commit(line, 1)
    with pytest.raises(RegraftError, match="cannot name a pointer"):
        line.point(name, version)


def test_events_tell_who_moved_what_and_why(line: Line) -> None:
    first, second = commit(line, 1), commit(line, 2)
    line.point("released", first, "passed the gate")
    line.point("released", second)
    line.rollback(first, "customers complained")
    events = line.events()
    assert [e.what for e in events] == ["create", "commit", "commit", "promote", "promote", "rollback"]
    assert [(e.name, e.old, e.new, e.why) for e in events[3:]] == [
        ("released", None, first.id, "passed the gate"),
        ("released", first.id, second.id, ""),
        ("head", second.id, first.id, "customers complained"),
    ]
    assert events[1].details["seconds"] > 0
    assert all(e.who and e.time.endswith("+00:00") for e in events)
    assert line.pointers() == {"head": first.id, "released": second.id}


def test_a_version_that_is_needed_is_not_dropped(line: Line) -> None:
    first = commit(line, 1)
    second = commit(line, 2, first)
    third = commit(line, 3, second)
    line.point("released", second)
    with pytest.raises(RegraftError, match="v1 is needed by its child v2"):
        line.drop("v1")
    with pytest.raises(RegraftError, match="pointer 'released', its child v3"):
        line.drop("v2")
    with pytest.raises(RegraftError, match="pointer 'head'"):
        line.drop(third)
    line.rollback(second)
    line.drop(third)
    assert line.versions() == [first, second]
    assert commit(line, 4, second).name == "v4"


def test_gc_takes_what_nothing_needs_and_nothing_else(line: Line) -> None:
    first = commit(line, 1)
    shared = stored(line)
    second = commit(line, 2, first)
    evidence = line.put_json({"items": [1, 2, 3]})
    third = line.commit(Draft(parents=(first.id,), evidence={"items": evidence}, record={"teacher": second.id}))
    assert line.gc().removed == []
    line.drop(second)
    line.put_tensor(torch.ones(3))
    debris = line.path / "blobs" / "ab" / f".{'a' * 64}.0123456789ab.tmp"
    debris.parent.mkdir(exist_ok=True)
    debris.write_bytes(b"half")
    (line.path / "notes.txt").write_text("mine")
    planned = line.gc(dry_run=True)
    assert debris.exists()
    assert sorted(planned.removed) == sorted(line.gc().removed)
    assert planned.bytes > 0
    assert planned.kept == len(stored(line))
    assert stored(line) == shared | {third.id, evidence}
    assert not debris.exists()
    assert line.verify().leftover == [line.path / "notes.txt"]
    line.load(first)
    assert line.gc() == line.gc(dry_run=True)


def test_gc_keeps_what_a_live_run_names_until_its_version_stands(line: Line) -> None:
    state = line.put_json({"weights": line.put_tensor(torch.ones(5)).digest})
    folder = line.run_dir("run-1")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.json").write_text(json.dumps({"step": 3, "at": state}))
    line.put_json("nobody needs this")
    kept = line.gc()
    assert (len(kept.removed), kept.kept) == (1, 2)
    version = commit(line, 1, run="run-1")
    assert line.runs() == []
    assert line.events()[-1].run == "run-1"
    assert len(line.gc().removed) == 2
    (line.run_dir("run-1") / "state.json").write_text("left by a kill after the commit")
    assert line.finished_runs() == ["run-1"]
    assert line.gc().removed == [line.path / "runs" / "run-1"]
    assert line.runs() == []
    line.load(version)


def test_gc_refuses_when_it_cannot_know(line: Line) -> None:
    first = commit(line, 1)
    commit(line, 2, first)
    path = line.blobs.path(first.id)
    whole = path.read_bytes()
    before = stored(line)
    for harm in (lambda: path.write_bytes(whole[:-1]), path.unlink):
        harm()
        with pytest.raises(DamagedStore, match=first.id):
            line.gc()
        assert stored(line) >= before - {first.id}


def test_runs_are_made_listed_and_removed(line: Line) -> None:
    assert line.runs() == []
    (line.run_dir("b") / "x").write_text("1")
    assert line.run_dir("b") == line.run_dir("b")
    line.run_dir("a")
    assert line.runs() == ["a", "b"]
    line.remove_run("b")
    line.remove_run("b")
    assert line.runs() == ["a"]
    for bad in ("", "..", "a/b", ".hidden", "x" * 200):
        with pytest.raises(RegraftError, match="cannot name a run"):
            line.run_dir(bad)


def test_notes_live_as_long_as_their_version(line: Line) -> None:
    base = commit(line, 1)
    other = commit(line, 2, base)
    line.note(other, {"reading/a": {"mean": 1.0}, "reading/b": {"mean": 2.0}}, "measured on a, b")
    line.note(other, {"reading/a": {"mean": 3.0}})
    assert line.notes(base) == {}
    assert {name: line.json(digest) for name, digest in line.notes(other).items()} == {
        "reading/a": {"mean": 3.0},
        "reading/b": {"mean": 2.0},
    }
    assert [(e.what, e.why) for e in line.events()][-2:] == [("note", "measured on a, b"), ("note", "")]
    line.gc()
    assert set(line.notes(other).values()) <= stored(line)
    damaged = line.blobs.path(line.notes(other)["reading/b"])
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes().replace(b"2", b"4"))
    [found] = line.verify().damaged
    assert (found.path, found.versions) == (damaged, (other.id,))
    damaged.write_bytes(damaged.read_bytes().replace(b"4", b"2"))
    notes = set(line.notes(other).values())
    line.rollback(base)
    line.drop(other)
    line.gc()
    assert not notes & stored(line)
