"""`learn` as it is asked for: which line, which knobs, which device; what is refused in one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft import cli
from regraft.store import Line

WORDS = "red green blue grey one two three four"
Run = Callable[..., str]


def make_model(folder: Path, seed: int) -> Path:
    from regraft.worlds.llama import bpe, llama, save

    save(llama(bpe([WORDS], 280), width=16, depth=1, heads=2, context=16, seed=seed), folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b")):
        make_model(folder / name / "model", seed)
    return folder


@pytest.fixture
def world(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of one shape, a/model and b/model, and a text; the working folder is another one."""
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    rows = [{"text": f"{WORDS} {i}"} for i in range(60)]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must end with this code; what it said."""

    def command(*words: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["regraft", *map(str, words)])
        from regraft.cli import live

        monkeypatch.setattr(live.out, "_file", None)
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = "".join(capfd.readouterr())
        assert (left.value.code, "Traceback" in said) == (code, False), said
        return " ".join(said.split())

    return command


def learn(world: Path, target: object, *more: object) -> list[object]:
    return ["learn", target, "--data", world / "new.jsonl", "--unprotected", "--set", "tokens=200", *more]


def knobs(line: Path) -> dict[str, Any]:
    found: dict[str, Any] = Line.open(line).version("head").record["knobs"]
    return found


def test_the_line_of_a_model_is_made_beside_it(world: Path, run: Run) -> None:
    run(*learn(world, world / "a/model"))
    run(*learn(world, world / "b/model"))
    assert not list(Path.cwd().iterdir())
    for name in ("a", "b"):
        assert len(Line.open(world / name / "model-line").versions()) == 2


def test_a_line_that_began_from_another_model_is_not_updated(world: Path, run: Run) -> None:
    line = world / "line"
    run(*learn(world, world / "a/model", "--line", line))
    said = run(*learn(world, world / "b/model", "--line", line), code=2)
    assert f"{line}: the line began from another model than {world / 'b/model'}: its " in said
    config = world / "b/model/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 1e-5}))
    assert "its config.json is not the same" in run(*learn(world, world / "b/model", "--line", line), code=2)
    assert "there is no such folder" in run(*learn(world, world / "c/d/model", "--line", line), code=2)
    other = world / "other"
    assert "is a line itself" in run(*learn(world, line, "--line", other), code=2)
    assert len(Line.open(line).versions()) == 2
    run(*learn(world, world / "a/model", "--line", line, "--set", "lr=0.001"))
    assert len(Line.open(line).versions()) == 3


def test_a_seed_that_is_said_wins_over_the_recipe(world: Path, run: Run) -> None:
    (world / "recipe.yaml").write_text("seed: 7\n")
    for said, seed in (([], 7), (["--seed", 3], 3), (["--seed", 0], 0)):
        run(
            *learn(world, world / "a/model", "--base", "v1" if said else "head"),
            "--recipe",
            world / "recipe.yaml",
            *said,
        )
        assert knobs(world / "a/model-line")["seed"] == seed


def test_resume_refuses_what_it_would_ignore(world: Path, run: Run) -> None:
    from regraft.cli import runs, updates
    from regraft.recipes.adoption import adopt

    line, _ = adopt(str(world / "a/model"), world / "line")
    request = updates.Request(str(line.path), [str(world / "new.jsonl")], {"tokens": 200}, unprotected=True)
    with line.writing():
        runs.begin(line, *updates._order(line, request))
    (world / "recipe.yaml").write_text("lr: 0.1\n")
    for option, *value in (
        ("--set", "lr=0.1"),
        ("--recipe", world / "recipe.yaml"),
        ("--seed", 0),
        ("--keep", world / "new.jsonl"),
        ("--suite", world / "quiz.jsonl"),
        ("--message", "other"),
        ("--skip-bad",),
    ):
        said = run("learn", line.path, "--resume", option, *value, code=2)
        assert option in said
        assert "would be ignored" in said
    assert len(line.versions()) == 1
    run("learn", line.path, "--resume")
    assert len(line.versions()) == 2


def test_a_study_on_a_device_that_is_not_there(world: Path, run: Run) -> None:
    run("adopt", world / "a/model", world / "line")
    command = ["study", "rewarming", world / "line", "--data", world / "new.jsonl", "--device", "nowhere"]
    assert "regraft: --device nowhere: no such device" in run(*command, code=2)
    assert Line.open(world / "line").runs() == []


def test_the_plan_names_the_device(world: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert " device cpu " in run(*learn(world, world / "a/model", "--plan-only"))
    assert "no such device" in run(*learn(world, world / "a/model", "--device", "nowhere"), code=2)
    run(*learn(world, world / "a/model"))
    line = world / "a/model-line"
    assert "no such device" in run("compare", line, "v1", "v2", "--device", "nowhere", code=2)
    assert "no such device" in run("check", line, "v1", "v2", "--device", "nowhere", code=2)


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from regraft.recipes.update import chosen_device

    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert chosen_device("auto") == device


def test_how_questions_are_scored_can_be_said(world: Path, run: Run) -> None:
    from regraft.recipes.sources import load_items

    quiz = world / "quiz.jsonl"
    quiz.write_text(json.dumps({"prompt": "red", "choices": [" green", " two three"], "answer": 0}) + "\n")
    run(*learn(world, world / "a/model", "--suite", quiz, "--normalise", "bytes", "--stop", " "))
    line = Line.open(world / "a/model-line")
    [suite] = load_items(line, line.version("head"))
    assert (suite.normalise, suite.stop) == ("bytes", " ")
    assert "no questions to score" in run(*learn(world, line.path, "--normalise", "bytes"), code=2)


def test_the_time_left_counts_from_where_the_run_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.cli import live

    said: list[str] = []
    clock = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(live.err, "print", lambda text, **_: said.append(text))
    watched = live.Live()
    watched.plan(1000, None)
    watched.record({"step": 900, "tokens": 9000})
    watched.record({"step": 910, "tokens": 9100})
    assert said[-1].endswith("0:03:00 left"), said
    assert "5 tokens/s" in said[-1]


def test_a_quiet_run_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.cli import live

    monkeypatch.setattr(live, "err", live.Console(stderr=True, force_terminal=True))
    quiet = live.Live(quiet=True)
    quiet.stage("training")
    assert quiet.bar is None


def test_the_plan_says_how_long_it_will_take_and_moves_nothing(world: Path, run: Run) -> None:
    run("adopt", world / "a" / "model", "line")
    command = ("learn", "line", "--data", world / "new.jsonl", "--unprotected", "--set", "tokens=256")
    assert "time about 0:00:0" in run(*command, "--plan-only")
    first = run(*command).splitlines()[-1].split()[1]
    run("adopt", world / "a" / "model", "other")
    Path("other").rename("without")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regraft.recipes.update.seconds_per_row", lambda *_: 0.0)
        again = run("learn", "without", *command[2:]).splitlines()[-1].split()[1]
    assert first == again


def test_code_of_a_model_runs_only_where_it_is_named(world: Path, run: Run) -> None:
    folder = world / "a" / "model"
    config = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own-llama", "auto_map": named}))
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own-llama'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    refused = "config.json: the model needs Python code of its own to be run. Read it, and if you trust it say --trust"
    assert refused in run("adopt", folder, "line", code=2)
    run("adopt", folder, "line", "--trust-remote-code")
    command = ("learn", "line", "--data", world / "new.jsonl", "--unprotected", "--set", "tokens=256")
    assert refused in run(*command, code=2)
    run(*command, "--trust-remote-code")
    quiz = world / "quiz.jsonl"
    quiz.write_text('{"prompt": "red", "choices": [" green", " two"], "answer": 0}\n')
    assert refused in run("eval", "line", "v1", "--suite", quiz, code=2)
    run("eval", "line", "v1", "--suite", quiz, "--trust-remote-code")
    run("export", "line", "out")
    assert Path("out", "own.py").exists()
