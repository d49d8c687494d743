"""Reading: every kind of input, and every kind of bad input with its one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from regraft.core.errors import RegraftError
from regraft.data import read
from regraft.data.document import Chat, Completion, Document, Text
from regraft.data.read import documents

GOOD = b'{"text": "good"}\n'


def everything(*names: object, **knobs: object) -> list[Document]:
    return [document for batch in documents([str(n) for n in names], **knobs) for document in batch]  # type: ignore[arg-type]


def complaint(*names: object, **knobs: object) -> str:
    with pytest.raises(RegraftError) as caught:
        everything(*names, **knobs)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return path


def test_jsonl_of_each_kind(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi", "name": None}, {"role": "assistant", "content": "hello"}]
    row = {"text": "a", "weight": 2, "source": "web", "tags": ["x", "y", "x"], "id": 7, "url": "u", "date": 3}
    text = lines(tmp_path / "t.jsonl", row, {"text": "b"})
    chat = lines(tmp_path / "c.jsonl", {"messages": turns, "tools": [{"name": "f"}], "prompt": "hi"})
    pair = lines(tmp_path / "p.jsonl", {"prompt": "", "completion": "yes"})
    reader = documents([str(text), str(chat), str(pair)])
    (batch,) = reader
    first, second, third, fourth = batch
    assert first == Document(first.id, Text("a"), 2.0, "web", ("x", "y"), "7", 0, 1)
    assert (second.weight, second.source, second.tags, second.name, second.line) == (1.0, "t", (), None, 2)
    dropped = [{"role": "user", "content": "hi"}, turns[1]]
    assert third.content == Chat(dropped, [{"name": "f"}])
    assert fourth.content == Completion("", "yes")
    assert [(f.path, f.rows) for f in reader.files] == [(str(text), 2), (str(chat), 1), (str(pair), 1)]
    assert reader.ignored_keys == {"url": 1, "date": 1, "prompt": 1}
    assert not reader.skipped
    assert all(len(document.id) == 16 for document in batch)


def test_the_same_content_has_the_same_id_whatever_surrounds_it(tmp_path: Path) -> None:
    rows = lines(
        tmp_path / "a.jsonl",
        {"text": "ünïcode 🙂", "weight": 2, "source": "x"},
        b'{"text":"\\u00fcn\\u00efcode \\ud83d\\ude42","tags":["t"]}\r\n',
        {"text": "other"},
    )
    (tmp_path / "b.md").write_bytes(b"\xef\xbb\xbf" + "ünïcode 🙂".encode())
    first, escaped, other, plain = everything(rows, tmp_path / "b.md")
    assert first.id == escaped.id == plain.id != other.id
    assert first.content == plain.content


def test_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "one\\r\\n"}\r\n', b"\r\n", b'{"text": "two"}')
    assert [(d.content, d.line) for d in everything(path)] == [(Text("one\r\n"), 1), (Text("two"), 3)]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert everything(tmp_path / "a.txt")[0].content == Text("one\ntwo\nthree\n")


def test_json_list_and_json_lines_in_a_json_file(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(' [{"text": "a"},\n {"text": "b"}]')
    assert [(d.content, d.line) for d in everything(tmp_path / "list.json")] == [(Text("a"), 1), (Text("b"), 2)]
    assert len(everything(lines(tmp_path / "lines.json", {"text": "a"}, {"text": "b"}))) == 2
    (tmp_path / "broken.json").write_text('[{"text": "a"},\n {"text"]')
    assert (
        complaint(tmp_path / "broken.json")
        == f"{tmp_path}/broken.json: not JSON: Expecting ':' delimiter at line 2, column 9"
    )
    (tmp_path / "none.json").write_text("[]")
    assert complaint(tmp_path / "none.json").endswith("none.json: no documents")


def test_a_folder_is_walked_in_order_and_counts_what_it_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name, content in {
        "b.txt": "b", "a.py": "a", "sub/c.rst": "c", "empty.py": "", "blank.txt": "\n", "x.png": "x", "y.png": "y",
        "LICENSE": "l", ".hidden.txt": "h", ".git/config.txt": "g", "settings.json": "{}",
    }.items():  # fmt: skip
        (folder / name).write_text(content)
    lines(folder / "rows.jsonl", {"text": "row"})
    reader = documents([str(folder)])
    (batch,) = reader
    assert [d.content for d in batch] == [Text("a"), Text("b"), Text("row"), Text("c")]
    assert {d.source for d in batch} == {"docs"}
    assert [reader.files[d.file].path for d in batch] == [
        f"{folder}/{n}" for n in ("a.py", "b.txt", "rows.jsonl", "sub/c.rst")
    ]
    assert reader.skip_counts == {
        ".png: not a text file": 2, ".json: not a text file": 1, "no suffix: not a text file": 1,
        "hidden file": 1, "hidden folder": 1, "empty file": 1, "empty text": 1,
    }  # fmt: skip
    assert len(reader.skipped) == 8
    list(reader)
    assert reader.skip_counts.total() == 8
    assert len(everything(folder / "LICENSE", folder / "x.png")) == 2
    assert {d.source for d in everything(folder, source="mine")} == {"mine"}


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    turns = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": None}]] * 2
    parquet.write_table(pa.table({"messages": turns, "weight": [0.5, None], "url": ["u", "v"]}), tmp_path / "a.parquet")
    reader = documents([str(tmp_path / "a.parquet")])
    first, second = next(iter(reader))
    assert first.content == Chat([turns[0][0], {"role": "assistant", "content": "a"}])
    assert (first.weight, second.weight, second.line) == (0.5, 1.0, 2)
    list(reader)
    assert reader.ignored_keys == {"url": 2}
    parquet.write_table(pa.table({"body": ["x"], "title": ["y"]}), tmp_path / "b.parquet")
    assert complaint(tmp_path / "b.parquet").endswith(
        "no usable column: rows need `text`, or `messages`, or `prompt` and `completion`; it has `body`, `title`"
    )
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-9])
    assert "cut.parquet: unreadable Parquet: " in complaint(tmp_path / "cut.parquet", skip_bad=True)
    (tmp_path / "empty.parquet").write_bytes(b"")
    assert "empty.parquet: unreadable Parquet: " in complaint(tmp_path / "empty.parquet")
    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    assert complaint(tmp_path / "none.parquet").endswith("none.parquet: no documents")
    parquet.write_table(pa.table({"text": ["a", None]}), tmp_path / "null.parquet")
    assert complaint(tmp_path / "null.parquet").endswith("null.parquet:2: field `text` is null; the row has `text`")


def test_datasets_saved_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})
    made.save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "split")
    datasets.DatasetDict({"left": made, "right": made}).save_to_disk(tmp_path / "odd")
    for name in ("plain", "split"):
        reader = documents([str(tmp_path / name)])
        (batch,) = reader
        assert [d.content for d in batch] == [Text("a"), Text("b")]
        assert batch[0].source == name
        assert reader.ignored_keys == {"n": 2}
        assert len(reader.files[0].sha256) == 64
    assert complaint(tmp_path / "odd").endswith("odd: which split? It has left, right and no `train`")
    (tmp_path / "plain" / "state.json").write_text("{")
    assert "plain: unreadable dataset: " in complaint(tmp_path / "plain")


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_a_hub_name_while_offline(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch, "1")
    expected = "someone/corpus: no such path, and the hub cannot be asked: offline. Give a local path"
    assert complaint("someone/corpus") == expected
    assert complaint("someone/corpus:en@main").startswith("someone/corpus:en@main: ")


def test_a_hub_that_does_not_answer_or_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    answer = SimpleNamespace(headers={}, request=None)
    for raised, expected in (
        (RuntimeError("no route"), "no such path, and the hub cannot be asked: offline. Give a local path"),
        (TimeoutError(), "no such path, and the hub cannot be asked: offline. Give a local path"),
        (RepositoryNotFoundError("x", response=answer), "neither a path here nor a dataset on the hub"),
        (HfHubHTTPError("gated\nsorry", response=answer), "the hub refused: gated"),
    ):

        def ask(self: object, *_: object, why: Exception = raised, **__: object) -> None:
            raise why

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", ask)
        assert complaint("someone/corpus") == f"someone/corpus: {expected}"


def test_a_hub_dataset_is_streamed_at_one_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(name: str, config: str, *, revision: str, streaming: bool) -> object:
        asked.append((name, config, revision, streaming))
        made = datasets.Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset()
        return datasets.IterableDatasetDict({"train": made})

    monkeypatch.setattr(read, "_hub_revision", lambda name, repository, revision: "abc")
    monkeypatch.setattr(datasets, "load_dataset", load)
    reader = documents(["some/set:en"])
    assert [d.content for d in next(iter(reader))] == [Text("a"), Text("b")]
    assert asked == [("some/set", "en", "abc", True)]
    assert reader.files[0].source == "some/set"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"{text: 1}\n", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"text": "a"\n', "not JSON: Expecting ',' delimiter at column 13"),
        (b"[" * 100_000 + b"\n", "not JSON: "),
        (b'{"text": "caf\xe9"}\n', "not UTF-8: byte 13 is 0xe9"),
        (b'{"text": "\\ud83d"}\n', "half a surrogate pair: an escape such as \\ud83d without its other half"),
        (b'["text"]\n', "not an object: a list; rows need `text`, or `messages`, or `prompt` and `completion`"),
        ({"body": "x"}, "field `text` is missing; the row has `body`"),
        ({}, "field `text` is missing; the row has no fields"),
        ({"text": None}, "field `text` is null; the row has `text`"),
        ({"text": 3}, "field `text` must be a string, not a number"),
        ({"text": ["x"]}, "field `text` must be a string, not a list"),
        ({"text": ""}, "empty text"),
        ({"text": " \n"}, "empty text"),
        ({"text": "x", "weight": "2"}, "field `weight` must be a number, not a string"),
        ({"text": "x", "weight": True}, "field `weight` must be a number, not true or false"),
        ({"text": "x", "weight": float("nan")}, "field `weight` must be finite and at least 0, not nan"),
        ({"text": "x", "weight": -1}, "field `weight` must be finite and at least 0, not -1"),
        ({"text": "x", "weight": 10**400}, "field `weight` must be finite and at least 0, not 1"),
        ({"text": "x", "tags": "t"}, "field `tags` must be a list of strings, not a string"),
        ({"text": "x", "tags": ["t", 1]}, "field `tags` must be a list of strings, not a list with a number"),
        ({"text": "x", "source": 1}, "field `source` must be a string, not a number"),
        ({"text": "x", "id": {}}, "field `id` must be a string or an integer, not an object"),
        (
            {"text": "x", "prompt": "p", "completion": "c"},
            "more than one kind of content: `text`, `completion`; keep one",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            "mixed schemas: has `messages` but line 1 has `text`; a file holds one kind of row",
        ),
    ],
)
def test_bad_text_rows(tmp_path: Path, row: object, why: str) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, row, GOOD)
    said = complaint(path)
    assert said.startswith(f"{path}:2: {why}")
    assert said == f"{path}:2: {why}" or why.endswith((" ", "1"))
    assert len(said) < 400
    reader = documents([str(path)], skip_bad=True)
    (batch,) = reader
    assert [d.line for d in batch] == [1, 3]
    assert [(s.path, s.line) for s in reader.skipped] == [(str(path), 2)]
    assert reader.skip_counts.total() == 1
    assert reader.files[0].rows == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p"}, "field `completion` is missing; the row has `prompt`"),
        ({"completion": "p"}, "field `prompt` is missing; the row has `completion`"),
        ({"prompt": "p", "completion": ""}, "empty completion"),
        ({"prompt": 1, "completion": "x"}, "field `prompt` must be a string, not a number"),
        (
            {"body": 1},
            "no usable field: rows need `text`, or `messages`, or `prompt` and `completion`; the row has `body`",
        ),
        ({"messages": "hi"}, "field `messages` must be a list of objects, not a string"),
        ({"messages": []}, "empty messages"),
        ({"messages": ["hi"]}, "field `messages[0]` must be an object, not a string"),
        ({"messages": [{"content": "x"}]}, "field `messages[0].role` must be a string, not missing or null"),
        ({"messages": [{"role": "user"}]}, "field `messages[0].content` must be a string, not missing or null"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no assistant turn: nothing to learn from"),
        (
            {"messages": [{"role": "assistant", "content": "x"}], "tools": "f"},
            "field `tools` must be a list, not a string",
        ),
    ],
)
def test_bad_first_rows(tmp_path: Path, row: object, why: str) -> None:
    path = lines(tmp_path / "a.jsonl", row)
    assert complaint(path) == f"{path}:1: {why}"
    assert complaint(path, skip_bad=True) == f"{path}: no documents: all 1 rows were skipped"


def test_a_tool_call_needs_no_content(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    (document,) = everything(lines(tmp_path / "a.jsonl", {"messages": [turn]}))
    assert document.content == Chat([{"role": "assistant", "tool_calls": [{"name": "f"}]}])


def test_a_very_long_line_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as handle:
        handle.write(GOOD + b'{"text": "')
        for _ in range(50):
            handle.write(b"x" * (1 << 20))
        handle.write(b'"}\n' + GOOD)
    assert complaint(path) == f"{path}:2: line too long: over 32 MiB"
    tracemalloc.start()
    found = everything(path, skip_bad=True, max_line_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [d.line for d in found] == [1, 3]
    assert peak < 8 << 20
    assert len(everything(lines(tmp_path / "b.jsonl", GOOD.strip()), max_line_bytes=len(GOOD) - 1)) == 1


def test_files_that_are_bad_as_a_whole(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_bytes(b"")
        assert complaint(tmp_path / name, skip_bad=True) == f"{tmp_path / name}: empty file"
    (tmp_path / "b.txt").write_bytes(b"")
    assert complaint(tmp_path / "b.txt") == f"{tmp_path}/b.txt:1: empty file"
    (tmp_path / "c.jsonl").write_bytes(b"\n\n")
    assert complaint(tmp_path / "c.jsonl", skip_bad=True) == f"{tmp_path}/c.jsonl: no documents"
    (tmp_path / "d.txt").write_bytes(b"caf\xe9")
    assert complaint(tmp_path / "d.txt") == f"{tmp_path}/d.txt:1: not UTF-8: byte 3 is 0xe9"
    assert complaint(tmp_path / "d.txt", skip_bad=True) == f"{tmp_path}/d.txt: no documents: all 1 rows were skipped"
    (tmp_path / "e.txt").write_bytes(b"x" * 100)
    assert "e.txt:1: file too large to be held whole: over " in complaint(tmp_path / "e.txt", max_line_bytes=12)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    lines(tmp_path / "notes.jsonl", GOOD)
    assert complaint(tmp_path / "note.jsonl") == (
        f"{tmp_path}/note.jsonl: no such file, folder or dataset; did you mean 'notes.jsonl'"
    )
    assert complaint(tmp_path / "no" / "x.jsonl").endswith(f"; the folder {tmp_path}/no does not exist")
    assert complaint("zzzz").startswith("zzzz: no such file, folder or dataset")
    assert complaint() == "no data was named. Give a file, a folder or a dataset"
    assert complaint(tmp_path, tmp_path / "notes.jsonl").endswith("notes.jsonl: is named twice")
    (tmp_path / "pictures").mkdir()
    assert complaint(tmp_path / "pictures").endswith("no text, JSONL or Parquet file in the folder; it holds nothing")
    (tmp_path / "pictures" / "x.png").write_bytes(b"")
    assert complaint(tmp_path / "pictures").endswith("it holds 1 .png")
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "x.txt").write_bytes(b"")
    assert complaint(tmp_path / "blank").endswith("x.txt: no documents: skipped 1 × empty file")


def test_links_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a")
    (tmp_path / "docs" / "b.txt").symlink_to("a.txt")
    (tmp_path / "docs" / "c.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "docs" / "d.txt")
    reader = documents([str(tmp_path / "docs")])
    assert [d.content for batch in reader for d in batch] == [Text("a")]
    assert reader.skip_counts == {"the same file again": 1, "not a file": 2}
    assert complaint(tmp_path / "docs" / "d.txt").endswith(
        "is no regular file, so it cannot be read twice. Save it to a file first"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD)
    path.chmod(0)
    assert complaint(path) == f"{path}: cannot be read: Permission denied"


def test_a_file_that_changes_after_it_was_hashed(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD)
    reader = documents([str(path)])
    assert len(reader.files[0].sha256) == 64
    lines(path, GOOD, GOOD)
    with pytest.raises(RegraftError, match=r"a\.jsonl: changed while it was being read\. Run again"):
        list(reader)


def test_skipped_rows_are_all_counted_and_the_first_listed(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, *[b"x\n"] * 50, *[{"text": ""}] * 5)
    reader = documents([str(path)], skip_bad=True)
    list(reader)
    assert reader.skip_counts == {"not JSON": 50, "empty text": 5}
    assert [s.line for s in reader.skipped] == list(range(2, 22))
    (tmp_path / "b.png").write_bytes(b"")
    reader = documents([str(tmp_path)], skip_bad=True)
    list(reader)
    assert reader.skipped[0].line == 2
    assert reader.skip_counts[".png: not a text file"] == 1


def test_batches_are_bounded_in_rows_and_in_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "a.jsonl", *[GOOD] * 2500)
    assert [len(batch) for batch in documents([str(path)])] == [1000, 1000, 500]
    monkeypatch.setattr(read, "_BATCH_CHARACTERS", 8)
    assert {len(batch) for batch in documents([str(path)])} == {2}


def test_reading_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, regraft.data.read; print({'torch', 'numpy', 'transformers', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
