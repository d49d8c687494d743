"""`eval`: suites that are measured later, which the gate then knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.store import Line

FRUIT = "apple pear plum fig lime red ripe sweet"
Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line with v1 adopted and v2 learned fruit; new questions and documents."""
    import random

    from regraft.cli.updates import Request, run
    from regraft.worlds.llama import bpe, llama, save

    folder, dice = tmp_path_factory.mktemp("eval"), random.Random(0)
    texts = [{"text": " ".join(dice.choices(FRUIT.split(), k=12))} for _ in range(120)]
    fresh = [{"text": " ".join(dice.choices(FRUIT.split(), k=9))} for _ in range(30)]
    quiz = [{"prompt": f"{a} {b}", "choices": [f" {a}", " zzz"], "answer": 0} for a in FRUIT.split() for b in "xy"]
    for name, rows in (("fruit", texts), ("exam", texts[:10] + fresh), ("quiz", quiz)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save(llama(bpe([FRUIT], 300), width=16, depth=1, heads=2, context=32), folder / "model")
    knobs = {"tokens": 4096, "batch_tokens": 512, "lr": 0.01}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(folder / "cache"))
        from regraft.recipes.adoption import adopt

        line, _ = adopt(str(folder / "model"), folder / "line")
        run(line, Request(str(line.path), [str(folder / "fruit.jsonl")], knobs, unprotected=True), quiet=True)
    return folder


def test_what_is_measured_later_is_compared_and_judged(run: Run) -> None:
    before = Line.open("line").version("v2").id
    out, err = run("eval", "line", "v1", "v2", "--suite", "exam.jsonl", "--suite", "quiz.jsonl", "--json")
    rows: list[dict[str, Any]] = json.loads(out)
    assert [(row["suite"], row["items"], row["unit"]) for row in rows] == [
        ("exam", 40, "nats/token"),
        ("quiz", 16, "correct"),
    ] * 2
    assert all(row["interval"][0] <= row["mean"] <= row["interval"][1] for row in rows)
    assert "exam: v2 was trained on" in err
    assert "exam: v1 was trained on" not in err
    compared = json.loads(run("compare", "line", "v1", "--json")[0])
    assert compared["measured_now"] == []
    changes = {suite["suite"]: suite for suite in compared["suites"]}
    assert {"fruit", "exam", "quiz"} == set(changes)
    assert changes["exam"]["after"] == pytest.approx(rows[2]["mean"])
    Path("policy.json").write_text('{"suites": {"*": null, "exam": {"better_by_at_least": 99}}}')
    run("check", "line", "v1", "--policy", "policy.json", code=1)
    assert Line.open("line").version("head").id == before
    assert "measured on exam, quiz" in run("log", "line", "--events")[0]
    assert "0 damaged, 0 left over" in run("verify", "line")[0]


def test_one_side_alone_decides_nothing(run: Run) -> None:
    run("eval", "line", "--suite", "exam.jsonl", "--suite", "quiz.jsonl")
    assert "exam: read only after" in run("compare", "line", "v1")[0]
    said = run("check", "line", "v1", code=3)[0]
    assert "exam: measured only after: measure both with `regraft eval`" in said
    assert "quiz: measured only" not in said, "questions are kept, so they are asked of both"
    report = json.loads(run("report", "line", "--format", "json")[0])
    assert {"exam", "quiz"} <= set(report["roles"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to measure on"),
        (("--suite", "exam.jsonl", "--suite", "cache/../exam.jsonl"), "a suite 'exam' was already read"),
        (("--suite", "nope.jsonl"), "no such file"),
        (("--tasks", ","), "no task was named"),
        (("--tasks", "arc", "--limit", "0"), "the limit must be at least 1 item, not 0"),
        (("v7", "--suite", "quiz.jsonl"), "no version 'v7'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_kept(run: Run, words: tuple[str, ...], said: str) -> None:
    _, err = run("eval", "line", *words, code=2)
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
    assert Line.open("line").notes("head") == {}


def test_tasks_of_the_harness(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "lm_eval", None)
        assert "pip install 'regraft[eval]'" in run("eval", "line", "--tasks", "tiny", code=2)[1]
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    (tmp_path / "tasks").mkdir()
    task = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "quiz.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tasks" / "tiny.yaml").write_text(json.dumps(task))
    given = ("--tasks", "tiny", "--task-folder", "tasks", "--limit", "12")
    out, _ = run("eval", "line", "v1", "v2", *given, "--json")
    assert [(row["suite"], row["items"]) for row in json.loads(out)] == [("tiny", 12)] * 2
    assert "tiny (12)" in run("compare", "line", "v1")[0]


def test_suites_of_one_name_are_all_judged(run: Run) -> None:
    rows = Path("quiz.jsonl").read_text().splitlines(keepends=True)
    for i in range(3):
        Path(f"part{i}").mkdir()
        Path(f"part{i}", "quiz.jsonl").write_text("".join(rows[i::3]))
        run("eval", "line", "v1", "v2", "--suite", f"part{i}/quiz.jsonl")
    found = json.loads(run("compare", "line", "v1", "--json")[0])
    assert {row["suite"]: row["n"] for row in found["suites"]} == {
        "fruit": 40, "quiz": 5, "quiz-2": 6, "quiz-3": 5,
    }  # fmt: skip


def test_nothing_is_measured_while_another_process_writes(run: Run) -> None:
    import subprocess

    hold = "import sys, time; from regraft.store import Line\nwith Line.open('line').writing():\n print(); input()"
    writer = subprocess.Popen([sys.executable, "-uc", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    _, err = run("eval", "line", "--suite", "quiz.jsonl", code=2)
    assert "another process is writing here" in err
    assert "measuring" not in err
    writer.communicate(b"\n")


def test_memory_that_runs_out_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from regraft.models.causal import CausalLM

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(CausalLM, "read", full)
    said = "regraft: out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert run("eval", "line", "--suite", "exam.jsonl", code=2)[1].splitlines()[-1].startswith(said)
    _, err = run("learn", "line", "--data", "exam.jsonl", "--set", "tokens=640", code=2)
    assert err.splitlines()[-1].startswith(said)
    assert Line.open("line").runs() == []


def test_show_tells_what_was_measured_and_when(run: Run) -> None:
    run("eval", "line", "v2", "--suite", "quiz.jsonl")
    said = run("show", "line", "v2")[0]
    assert [line.split()[-1] for line in said.splitlines() if line.startswith(("fruit", "quiz"))] == ["update", "later"]
    assert "measured on nothing" in run("show", "line", "v1")[0]


def test_a_dry_run_of_gc_counts_what_would_be_dropped(run: Run) -> None:
    run("rollback", "line", "v1")
    would, _ = run("gc", "line", "--drop", "v2", "--dry-run")
    did, _ = run("gc", "line", "--drop", "v2")
    assert would.splitlines()[-1].removeprefix("would remove ") == did.splitlines()[-1].removeprefix("removed ")
    assert "needed by pointer 'head'" in run("gc", "line", "--drop", "v1", "--dry-run", code=2)[1]


def test_a_row_is_found_by_the_id_it_had_of_its_own(run: Run) -> None:
    rows = [{"text": f"apple pear {i} plum", "id": f"doc{i}"} for i in range(100)]
    Path("named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("learn", "line", "--data", "named.jsonl", "--set", "tokens=4096")
    trained = {use.row: use for use in Line.open("line").rows_of("head", inherited=False)}
    assert any("named.jsonl" in run("show", "line", "--row", f"doc{i}")[0] for i in range(3))
    assert trained
    numbered = [{"text": f"fig lime {i} sweet", "id": 1000 + i} for i in range(100)]
    Path("numbered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbered))
    run("learn", "line", "--data", "numbered.jsonl", "--set", "tokens=4096")
    assert any("numbered.jsonl" in run("show", "line", "--row", str(1000 + i))[0] for i in range(3))
    assert "no version was touched by a row abcdef" in run("show", "line", "--row", "abcdef")[0]
    assert "no row of this line is called 'doc999'" in run("show", "line", "--row", "doc999", code=2)[1]


def test_equal_questions_are_asked_once(run: Run) -> None:
    Path("twice.jsonl").write_text(Path("quiz.jsonl").read_text() * 2)
    out, err = run("eval", "line", "--suite", "twice.jsonl", "--json")
    assert json.loads(out)[0]["items"] == 16
    assert "twice: skipped 16: a copy of another question" in err


def test_a_key_that_comes_twice_in_a_recipe(run: Run) -> None:
    Path("recipe.yaml").write_text("lr: 0.001\nlr: 0.005\n")
    _, err = run("learn", "line", "--data", "fruit.jsonl", "--recipe", "recipe.yaml", code=2)
    assert "recipe.yaml: key 'lr' comes twice" in err
