"""What users name and say is shown as it is; what is no file, no UTF-8 or no time is refused or said in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from regraft.core.errors import RegraftError
from regraft.core.names import regular_file, shown, utf8_name, utf8_text
from regraft.data.read import documents
from regraft.evidence.gate import Policy
from regraft.evidence.items import UNREADABLE, Items
from regraft.recipes.files import read_recipe
from regraft.store import Line

FRUIT = "apple pear plum fig lime red ripe sweet"
SAID = "[/odd] [red]what is said[/red] :smile:"
TEXT, QUIZ = "[/odd].jsonl", "quiz [red] :smile:.jsonl"
BYTES = os.fsdecode(b"\xff")
Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line whose second version learned a file with a name like markup, and was asked such questions."""
    from regraft.cli.updates import Request, run
    from regraft.recipes.adoption import adopt
    from regraft.worlds.llama import bpe, llama, save

    folder, dice = tmp_path_factory.mktemp("names"), random.Random(0)
    texts = [{"text": " ".join(dice.choices(FRUIT.split(), k=12))} for _ in range(120)]
    quiz = [{"prompt": f"{a} red", "choices": [f" {a}", " zzz"], "answer": 0} for a in FRUIT.split()]
    (folder / TEXT).parent.mkdir()
    for name, rows in ((TEXT, texts), (QUIZ, quiz)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    save(llama(bpe([FRUIT], 300), width=16, depth=1, heads=2, context=32), folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("REGRAFT_CACHE", str(folder / "cache"))
        line, _ = adopt("model", folder / "line")
        knobs = {"tokens": 1024, "batch_tokens": 512}
        run(line, Request(str(line.path), [TEXT], knobs, suites=[QUIZ], message=SAID, unprotected=True), quiet=True)
    return folder


def one_line(message: str) -> str:
    assert message.endswith("\n")
    assert "\n" not in message[:-1]
    return message[:-1]


def test_what_looks_like_markup_is_shown_as_it_is(run: Run) -> None:
    run("rollback", "line", "v2", "--why", f"why {SAID}")
    assert SAID in run("log", "line")[0]
    assert f"why {SAID}" in run("log", "line", "--events")[0]
    assert SAID in run("show", "line")[0]
    assert TEXT in run("show", "line", "--rows", "3")[0]
    out, err = run("eval", "line", "--suite", QUIZ)
    assert "quiz [red] :smile:" in out
    assert "measuring quiz [red] :smile: (v2)" in err
    assert "[red]" in run("compare", "line", "v1")[0]


def test_rows_are_one_at_least(run: Run) -> None:
    assert "Invalid value for '--rows'" in run("show", "line", "--rows", "-1", code=2)[1]


def test_a_report_replaces_files_only(run: Run) -> None:
    os.mkfifo("pipe")  # not a device: were it replaced, the machine would lack it
    out, err = run("report", "line", "-o", "pipe", code=2)
    assert one_line(err) == "regraft: pipe: cannot write: it is no regular file. Name another with -o"
    assert not out
    assert Path("pipe").is_fifo()
    assert one_line(run("report", "line", "-o", ".", code=2)[1]).startswith(
        "regraft: .: cannot write: it is no regular file"
    )
    Path("page.html").write_text("old")
    Path("link.html").symlink_to("page.html")
    Path("dangling.html").symlink_to("new.html")
    for link, target in (("link.html", "page.html"), ("dangling.html", "new.html")):
        assert one_line(run("report", "line", "-o", link)[0]) == link
        assert Path(link).is_symlink()
        assert Path(target).read_text().startswith("<!")
    assert one_line(run("report", "line", "-o", f"{BYTES}.html")[0]) == "\\udcff.html"
    assert Path(f"{BYTES}.html").is_file()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A pipe that has a writer, so that a reader waits for ever only at its end."""
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR)
    yield path
    os.close(handle)


@pytest.mark.parametrize(
    "read",
    [Items.read, read_recipe, Policy.load, lambda path: documents([str(path)])],
    ids=["suite", "recipe", "policy", "data"],
)
def test_pipes_and_devices_are_refused(read: Callable[[Path], object], pipe: Path) -> None:
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(RegraftError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: is no regular file, so it cannot be read twice. Save it to a file first"


def test_what_is_regular() -> None:
    for path in (__file__, Path(__file__).parent, "nowhere"):
        regular_file(path)
    with pytest.raises(RegraftError, match="is no regular file"):
        regular_file("/dev/zero")


def test_names_that_are_not_utf8_are_refused(run: Run) -> None:
    suite = f"{BYTES}.jsonl"
    shutil.copy(QUIZ, suite)
    refused = "regraft: \\udcff.jsonl: the name is not UTF-8. Rename it"
    assert one_line(run("learn", "line", "--unprotected", "--data", suite, code=2)[1]) == refused
    learn = ("learn", "line", "--unprotected", "--data", TEXT)
    assert one_line(run(*learn, "--suite", suite, code=2)[1]) == refused
    assert one_line(run("eval", "line", "--suite", suite, code=2)[1]) == refused
    before = Line.open("line").events()
    assert one_line(run("rollback", "line", "v1", "--why", BYTES, code=2)[1]) == (
        "regraft: --why: '\\udcff' is not UTF-8. Write it in UTF-8"
    )
    assert Line.open("line").events() == before
    assert shown("naïve 😀") == "naïve 😀"
    utf8_name("naïve 😀")
    utf8_text("naïve 😀", "-m")


def test_a_name_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / f"{BYTES}.png").write_text("b")
    reader = documents([str(folder)])
    assert len(list(reader)) == 1
    assert reader.skipped[0].path == str(folder / "\\udcff.png")
    (folder / f"{BYTES}.txt").write_text("b")
    with pytest.raises(RegraftError, match=r"udcff\.txt: the name is not UTF-8\. Rename it"):
        documents([str(folder)])
    reader = documents([str(folder)], skip_bad=True)
    assert len(list(reader)) == 1
    assert reader.skip_counts == {".png: not a text file": 1, "a name that is not UTF-8": 1}


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "texts" / "locked"
    locked.mkdir(parents=True)
    (locked.parent / "a.txt").write_text("a")
    scandir = os.scandir

    def denied(path: str) -> object:
        if Path(path) == denied_to:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    denied_to = locked
    with pytest.raises(RegraftError) as caught:
        documents([str(locked.parent)])
    assert str(caught.value) == f"{locked}: the folder cannot be read: Permission denied"
    reader = documents([str(locked.parent)], skip_bad=True)
    assert len(list(reader)) == 1
    assert reader.skip_counts == {"a folder that cannot be read": 1}
    assert reader.skipped[0].path == str(locked)
    denied_to = locked.parent
    with pytest.raises(RegraftError, match="the folder cannot be read: Permission denied"):
        documents([str(locked.parent)], skip_bad=True)


def test_times_beyond_clocks_are_years(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.cli import live

    monkeypatch.setattr(live.err, "_file", None)
    shows = live.Live()
    for seconds in (90.4, 0.1, 2 * 31557600, 40 * 31557600, 1e30):
        shows.plan(10, seconds)
    said = [line.split("about ")[1].split(" of")[0] for line in capfd.readouterr().err.splitlines()]
    assert said[:4] == ["0:01:30", "0:00:01", "730 days, 12:00:00", "40 years"]
    assert said[4].endswith(" years")
    shows.total, shows.said = 10**20, -live.EVERY_SECONDS
    clock = iter([0.0, 60.0])
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for step in (0, 1):
        shows.record({"tokens": step, "step": step})
    assert capfd.readouterr().err.endswith(" years left\n")


def test_ctrl_c_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.recipes import readings

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(readings, "measure", interrupted)
    out, err = run("eval", "line", "--suite", QUIZ, code=130)
    assert one_line(err) == "regraft: stopped"
    assert not out


def test_items_that_are_not_measured_are_counted(made: Path, tmp_path: Path) -> None:
    from regraft.recipes.update import load_model

    path = tmp_path / "mixed.jsonl"
    rows = [{"prompt": p, "choices": [" fig", " zzz"], "answer": 0} for p in ("red", "red " * 99)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "no answer"}]))
    suite = Items.read(path, skip_bad=True)
    assert suite.skipped == {"field `answer` is missing": 1}
    line = Line.open(made / "line")
    reading = suite.measure(load_model(line, line.version("v2")))
    assert suite.remarks(reading) == [f"left out 1: {UNREADABLE}"]
    short = Items.of("short", rows[:1])
    assert short.remarks(short.measure(load_model(line, line.version("v2")))) == []
