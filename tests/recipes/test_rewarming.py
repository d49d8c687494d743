"""The study of re-warming: what each fork is, that all begin alike, and that the line stays as it was."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.core.errors import Diverged, Interrupted, RegraftError
from regraft.recipes import update
from regraft.recipes.adoption import adopt
from regraft.recipes.files import check
from regraft.recipes.rewarming import Fork, Side, Study, rewarming
from regraft.recipes.sources import Sources
from regraft.recipes.texts import Text, read
from regraft.recipes.update import Update
from regraft.store import Line
from regraft.worlds import llama

KNOBS = {
    "warmups": (0.0, 0.25),
    "warmup": 0.25,
    "heights": (1.0, 2.0),
    "tokens": 16 * 64,
    "batch_tokens": 64,
    "lr": 1e-2,
}
WORDS = {"old": ("red", "green", "blue", "grey"), "new": ("one", "two", "three", "four")}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    dice = random.Random(0)
    for name, words in WORDS.items():
        rows = [{"text": " ".join(dice.choices(words, k=20))} for _ in range(120)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = llama.bpe([" ".join(words) for words in WORDS.values()], 300)
    llama.save(llama.llama(tokenizer, width=16, depth=1, heads=2, context=16), tmp_path / "model")
    return adopt(str(tmp_path / "model"), tmp_path / "line")[0]


def sources(line: Line, u: Update, *, old: bool = True) -> Sources:
    folder = line.path.parent
    new, kept = (Text.of(read([str(folder / f"{name}.jsonl")], u.model.tokenizer)) for name in ("new", "old"))
    return Sources(new, [], [kept] if old else [])


def begun(line: Line) -> Update:
    return Update(line, line.version("head"), "study-x")


def same(a: Update, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(t, weights[n]) for n, t in a.model.state().items())


def test_forks_are_each_setting_once_and_the_model_is_given_back(line: Line) -> None:
    u = begun(line)
    before = {n: t.clone() for n, t in u.model.state().items()}
    study = rewarming(**KNOBS)(u, sources(line, u))
    assert [(f.warmup, f.height) for f in study.forks] == [(None, 0.1), (0.0, 1.0), (0.25, 1.0), (0.25, 2.0)]
    assert [f.lr for f in study.forks] == pytest.approx([1e-3, 1e-2, 1e-2, 2e-2])
    assert same(u, before)
    assert (len(line.versions()), list(line.corpora())) == (1, [])


def test_a_fork_does_not_hear_of_those_before_it(line: Line) -> None:
    u = begun(line)
    both = rewarming(**KNOBS)(u, sources(line, u))
    alone = Update(line, line.version("head"), "study-y")
    one = rewarming(**{**KNOBS, "warmups": (), "heights": (2.0,)})(alone, sources(line, alone))
    assert one.forks[-1] == both.forks[-1]


def test_learns_the_new_and_sees_the_old(line: Line) -> None:
    u = begun(line)
    study = rewarming(**KNOBS)(u, sources(line, u))
    assert study.forks[1].new.loss < study.forks[0].new.loss
    assert all(f.old is not None and f.old.spike >= 0 for f in study.forks)
    [a, b] = [f.new.loss for f in study.forks[1:3]]
    assert study.spread == pytest.approx(abs(a - b) / min(a, b))
    assert json.loads(json.dumps(study.to_json()))["forks"][0]["warmup"] is None


def test_without_old_text_there_is_one_side(line: Line) -> None:
    u = begun(line)
    study = rewarming(**{**KNOBS, "warmups": (), "heights": (1.0,)})(u, sources(line, u, old=False))
    assert [f.old for f in study.forks] == [None, None]
    assert study.spread is None


def test_a_study_that_was_stopped_goes_on_where_it_was(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    u = begun(line)
    whole = rewarming(**KNOBS)(u, sources(line, u))
    fits = []
    real = update.fit

    def stop_at_third(*args: object, **knobs: object) -> object:
        fits.append(args)
        if len(fits) == 3:
            raise Interrupted("stopped")
        return real(*args, **knobs)  # type: ignore[arg-type]

    monkeypatch.setattr(update, "fit", stop_at_third)
    stopped = Update(line, line.version("head"), "study-z")
    texts = sources(line, stopped)
    with pytest.raises(Interrupted):
        rewarming(**KNOBS)(stopped, texts)
    again = Update(line, line.version("head"), "study-z")
    assert rewarming(**KNOBS)(again, sources(line, again)) == whole
    assert len(fits) == 3 + 2


def test_a_fork_that_diverges_is_named(line: Line) -> None:
    u = begun(line)
    texts = sources(line, u)
    with pytest.raises(Diverged, match="at 1e\\+08 times the usual peak"):
        rewarming(**{**KNOBS, "heights": (1e8,)})(u, texts)


def test_the_lowest_mean_of_both_sides_is_best() -> None:
    def fork(new: float, old: float | None) -> Fork:
        return Fork(0.01, 1.0, 1e-3, Side(new, 0.0, 0.0), None if old is None else Side(old, 0.0, 0.0))

    assert Study((fork(2.0, 5.0), fork(3.0, 3.0))).best().new.loss == 3.0
    assert Study((fork(2.0, None), fork(3.0, None))).best().new.loss == 2.0


def test_equal_settings_are_run_once() -> None:
    assert rewarming(warmups=(0.01, 0.01), heights=(1.0, 1.0), warmup=0.01).settings() == [(None, 0.1), (0.01, 1.0)]


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"warmup": 1.0}, "warmup"),
        ({"warmups": [0.0, -0.1]}, "warmups"),
        ({"heights": [0.0]}, "heights"),
        ({"heights": ["high"]}, "heights.0"),
        ({"floor": 0.0}, "floor"),
        ({"lr": float("nan")}, "lr"),
        ({"height": 1.0}, "did you mean 'heights'"),
    ],
)
def test_knobs_that_make_no_sense_are_named(knobs: dict[str, object], says: str) -> None:
    with pytest.raises(RegraftError, match=says):
        check(knobs, where="--set", recipe=rewarming)


def test_on_the_command_line_it_prints_a_table_and_leaves_nothing(line: Line) -> None:
    folder = line.path.parent
    said = [f"--set={k}={json.dumps(v)}" for k, v in KNOBS.items()]
    command = ["study", "rewarming", str(line.path), "--data", str(folder / "new.jsonl"), *said]
    shown = CliRunner().invoke(app, [*command, "--keep", str(folder / "old.jsonl")])
    assert shown.exit_code == 0, shown.output
    assert "none: constant" in shown.output
    assert "lowest mean of both losses: warm-up" in shown.output
    assert "0.02 (2×)" in shown.output
    found = CliRunner().invoke(app, [*command, "--json"])
    assert [f["old"] for f in json.loads(found.stdout)["forks"]] == [None] * 4
    assert (line.runs(), list(line.corpora()), len(line.versions())) == ([], [], 1)
    wrong = CliRunner().invoke(app, [*command, "--set", "heigths=[1]"])
    assert isinstance(wrong.exception, RegraftError)
    assert "did you mean 'heights'" in str(wrong.exception)
