"""Which rows touched a version, which versions a row touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from regraft.core.errors import RegraftError
from regraft.store import CorpusUse, Draft, Line, RowUse, TensorRef, Version


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.create(tmp_path / "line")


def row_id(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def corpus(folder: Path, rows: list[str], shards: int = 2, name: str = "news") -> tuple[dict[str, Any], list[Path]]:
    """Row i stands in line i + 1 of file i % 2."""
    paths, described = [], []
    for number, places in enumerate(np.array_split(np.arange(len(rows)), shards)):
        path = folder / f"{name}-{number}"
        ids = np.frombuffer(b"".join(row_id(rows[i]) for i in places), np.uint8).reshape(-1, 16)
        file, where = (places % 2).astype(np.int32), places.astype(np.int64) + 1
        save_file({"ids": ids, "file": file, "line": where, "tokens": np.arange(9, dtype=np.int32) + number}, path)
        paths.append(path)
        described.append({"digest": hashlib.sha256(path.read_bytes()).hexdigest(), "documents": len(places)})
    files = [{"path": f"{name}{i}.jsonl", "sha256": "0" * 64, "rows": len(rows)} for i in range(2)]
    return {"format": 1, "documents": len(rows), "shards": described, "files": files}, paths


def touched(line: Line, *mask: int) -> TensorRef:
    return line.put_tensor(torch.from_numpy(np.packbits(np.array(mask, np.bool_))))


def commit(line: Line, *uses: CorpusUse, parents: tuple[Version, ...] = (), record: int = 0) -> Version:
    return line.commit(Draft(parents=tuple(p.id for p in parents), corpora=uses, record=record))


def test_the_ledger_answers_both_ways(line: Line, tmp_path: Path) -> None:
    rows = ["a", "b", "c", "d", "e"]
    digest = line.add_corpus(*corpus(tmp_path, rows))
    first = commit(line, CorpusUse(digest, "new", touched(line, 1, 0, 1, 0, 0)))
    second = commit(
        line,
        CorpusUse(digest, "replay", touched(line, 1, 0, 0, 0, 0)),
        CorpusUse(digest, "new", touched(line, 1, 0, 0, 0, 1)),
        parents=(first,),
    )
    third = commit(line, parents=(second,))
    a, c, e = (row_id(name).hex() for name in "ace")

    assert list(line.rows_of(first)) == [
        RowUse(a, "news0.jsonl", 1, "new", first.id),
        RowUse(c, "news0.jsonl", 3, "new", first.id),
    ]
    whole = [
        *line.rows_of(first),
        RowUse(e, "news0.jsonl", 5, "new", second.id),
        RowUse(a, "news0.jsonl", 1, "replay", second.id),
    ]
    assert list(line.rows_of("v2")) == list(line.rows_of("v3")) == whole
    assert list(line.rows_of("v3", inherited=False)) == []
    assert [use.row for use in line.rows_of("v2", inherited=False)] == [a, e, a]
    assert list(line.rows_of("v3", limit=2)) == whole[:2]

    touches = [(t.version, t.role, t.inherited) for t in line.versions_of(a)]
    assert touches == [
        (first.id, "new", False),
        (second.id, "new", False),
        (second.id, "replay", False),
        (third.id, "new", True),
        (third.id, "replay", True),
    ]
    assert [(t.version, t.inherited) for t in line.versions_of(c)] == [
        (v.id, v != first) for v in (first, second, third)
    ]
    assert [(t.file, t.line) for t in line.versions_of(e)] == [("news0.jsonl", 5)] * 2
    assert line.versions_of(row_id("b").hex()) == line.versions_of(row_id("stranger").hex()) == []
    assert line.versions_of(a[:8].upper()) == line.versions_of(a)


def test_a_merge_inherits_from_both_sides_and_a_sibling_from_neither(line: Line, tmp_path: Path) -> None:
    left = line.add_corpus(*corpus(tmp_path, ["x", "shared"], name="left"))
    right = line.add_corpus(*corpus(tmp_path, ["y", "shared"], name="right"))
    base = commit(line)
    one = commit(line, CorpusUse(left, "new"), parents=(base,))
    two = commit(line, CorpusUse(right, "new"), parents=(base,))
    merged = commit(line, parents=(one, two))
    ids = {name: row_id(name).hex() for name in ("x", "y", "shared")}
    assert {t.version for t in line.versions_of(ids["x"])} == {one.id, merged.id}
    assert {(t.version, t.file) for t in line.versions_of(ids["shared"])} == {
        (one.id, "left1.jsonl"),
        (two.id, "right1.jsonl"),
        (merged.id, "left1.jsonl"),
        (merged.id, "right1.jsonl"),
    }
    assert [use.row for use in line.rows_of(merged)] == [ids["x"], ids["shared"], ids["y"], ids["shared"]]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_every_row_is_found_at_odd_sizes(line: Line, tmp_path: Path, count: int) -> None:
    names = [f"row {i}" for i in range(count)]
    digest = line.add_corpus(*corpus(tmp_path, names, shards=3))
    mask = np.random.default_rng(count).random(count) < 0.5
    version = commit(line, CorpusUse(digest, "new", touched(line, *mask)))
    assert [use.row for use in line.rows_of(version)] == [
        row_id(n).hex() for n, m in zip(names, mask, strict=True) if m
    ]
    for place in range(0, count, max(1, count // 20)):
        found = line.versions_of(row_id(names[place]).hex())
        assert [(t.line, t.file) for t in found] == ([(place + 1, f"news{place % 2}.jsonl")] if mask[place] else [])


def test_one_row_that_stands_in_many_places_is_found_in_each(line: Line, tmp_path: Path) -> None:
    digest = line.add_corpus(*corpus(tmp_path, ["same"] * 5 + ["other"]))
    version = commit(line, CorpusUse(digest, "new"))
    assert [t.line for t in line.versions_of(row_id("same").hex())] == [1, 3, 5, 2, 4]
    assert len(list(line.rows_of(version))) == 6


def test_extreme_ids_sort_and_are_found(line: Line, tmp_path: Path) -> None:
    manifest, (path,) = corpus(tmp_path, ["p", "q", "r"], shards=1)
    ids = np.array([[255] * 16, [0] * 16, [0] * 15 + [255]], np.uint8)
    column = {"ids": ids, "file": np.zeros(3, np.int32), "line": np.arange(1, 4, dtype=np.int64)}
    save_file(column, path)
    manifest["shards"][0]["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    commit(line, CorpusUse(line.add_corpus(manifest, [path]), "new"))
    assert [t.line for t in line.versions_of("f" * 32)] == [1]
    assert [t.line for t in line.versions_of("0" * 32)] == [2]
    assert [t.line for t in line.versions_of("0" * 8)] == [2, 3]


@pytest.mark.parametrize("bad", ["", "abc", "xyz1", "a" * 33, "%"])
def test_a_wrong_row_id_is_refused(line: Line, bad: str) -> None:
    with pytest.raises(RegraftError, match="not a row's id"):
        line.versions_of(bad)


def test_a_corpus_is_added_once_and_linked(line: Line, tmp_path: Path) -> None:
    manifest, paths = corpus(tmp_path, ["a", "b", "c"])
    digest = line.add_corpus(manifest, paths)
    assert digest == hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    before = len(line.blobs.present())
    assert line.add_corpus(manifest, paths) == digest
    assert (line.corpora(), line.corpus(digest), len(line.blobs.present())) == ([digest], manifest, before)
    for path, shard in zip(paths, manifest["shards"], strict=True):
        assert line.file(shard["digest"]).stat().st_ino == path.stat().st_ino
        assert line.file(shard["digest"]).stat().st_mode & 0o777 == line.file(digest).stat().st_mode & 0o777
    with pytest.raises(RegraftError, match="no corpus"):
        line.corpus("0" * 64)


def test_a_damaged_index_of_rows_is_made_again(line: Line, tmp_path: Path) -> None:
    manifest, paths = corpus(tmp_path, ["a", "b", "c"])
    digest = line.add_corpus(manifest, paths)
    version = commit(line, CorpusUse(digest, "new"))
    index = line.blobs.path(line.row_index(digest))
    index.write_bytes(index.read_bytes()[:-1])
    (damage,) = line.verify().damaged
    assert (damage.path, damage.versions) == (index, (version.id,))
    line.add_corpus(manifest, paths)
    assert line.verify().damaged == []


def test_a_corpus_that_does_not_fit_its_manifest_is_refused(line: Line, tmp_path: Path) -> None:
    manifest, paths = corpus(tmp_path, ["a", "b", "c"])
    with pytest.raises(RegraftError, match="counts 4 documents"):
        line.add_corpus({**manifest, "documents": 4}, paths)
    with pytest.raises(RegraftError, match="not the 1 given"):
        line.add_corpus(manifest, paths[:1])
    with pytest.raises(RegraftError, match="not the manifest of a corpus"):
        line.add_corpus({"documents": 3}, paths)
    with pytest.raises(RegraftError, match="names file 1, but it has 1 files"):
        line.add_corpus({**manifest, "files": manifest["files"][:1]}, paths)
    swapped = [{**shard, "documents": 3 - shard["documents"]} for shard in manifest["shards"]]
    with pytest.raises(RegraftError, match=r"column ids is uint8 \[2, 16\]"):
        line.add_corpus({**manifest, "shards": swapped}, paths)
    assert line.corpora() == []
    line.gc()
    assert line.blobs.present() == {}


def test_a_bitmap_must_fit_its_corpus(line: Line, tmp_path: Path) -> None:
    digest = line.add_corpus(*corpus(tmp_path, ["a", "b", "c"]))
    with pytest.raises(RegraftError, match=r"bitmap of 3 documents must be uint8 \[1\]"):
        commit(line, CorpusUse(digest, "new", touched(line, *[1] * 9)))
    with pytest.raises(RegraftError, match="no corpus"):
        commit(line, CorpusUse(line.put_json({}), "new"))


def test_the_order_of_corpora_does_not_change_the_id(line: Line, tmp_path: Path) -> None:
    digest = line.add_corpus(*corpus(tmp_path, ["a", "b", "c"]))
    uses = [CorpusUse(digest, "new", touched(line, 1, 0, 0)), CorpusUse(digest, "replay"), CorpusUse(digest, "new")]
    assert commit(line, *uses) == commit(line, *reversed(uses))


def test_gc_keeps_a_corpus_while_a_version_or_a_run_needs_it(line: Line, tmp_path: Path) -> None:
    kept = line.add_corpus(*corpus(tmp_path, ["a", "b"], name="kept"))
    running = line.add_corpus(*corpus(tmp_path, ["c", "d"], name="running"))
    line.add_corpus(*corpus(tmp_path, ["e", "f"], name="idle"))
    first = commit(line)
    second = commit(line, CorpusUse(kept, "new", touched(line, 1, 0)), parents=(first,))
    (line.run_dir("r") / "state.json").write_text(json.dumps({"corpus": running}))
    assert len(line.gc().removed) == 4
    assert line.corpora() == sorted([kept, running])
    assert len(list(line.rows_of(second))) == 1
    line.remove_run("r")
    line.rollback(first)
    line.drop(second)
    line.gc()
    assert line.corpora() == []
    assert line.blobs.present().keys() == {first.id}
    assert line.versions_of(row_id("a").hex()) == []
    line.add_corpus(*corpus(tmp_path, ["a", "b"], name="kept"))
    assert line.verify().damaged == []


def test_rows_are_read_without_torch(line: Line, tmp_path: Path) -> None:
    import subprocess
    import sys

    commit(line, CorpusUse(line.add_corpus(*corpus(tmp_path, ["a", "b"])), "new", touched(line, 0, 1)))
    code = (
        "import sys; from regraft.store import Line; line = Line.open(sys.argv[1]);"
        "(use,) = line.rows_of('head'); (touch,) = line.versions_of(use.row); assert touch.line == 2;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(line.path)], check=True)
