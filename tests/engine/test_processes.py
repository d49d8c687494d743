"""Two processes give what one gives: the same losses, weights and rows, from a fit to a version of a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import dist_fit
import pytest
import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.distributed import Sharded
from regraft.engine.fit import Fitted, fit
from regraft.engine.processes import Processes
from regraft.engine.training import Training
from regraft.models.classifier import Classifier

gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
several = pytest.mark.skipif(not gloo, reason="torch without gloo")
SCRIPT = Path(dist_fit.__file__)
EQUAL = [
    "plain",
    "micro",
    "replay",
    "odd",
    "tiny",
    "on",
    "schemas",
    "observes",
    "remembers",
    "penalty",
    "frozen",
    "gradients",
    "beside",
    "sgd",
]


def torchrun(*said: str, folder: Path, count: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs a script or `-m MODULE` in several processes, in `folder`."""
    source = str(Path(sys.modules["regraft"].__file__ or "").parent.parent)
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [sys.executable, *run, *said],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source, "REGRAFT_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )


def apart(a: Any, b: Any) -> float:
    """The largest difference between two trees of numbers; infinite where their shapes differ."""
    if isinstance(a, Tensor):
        same = isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
        return float((a.double() - b.double()).abs().max()) if same and a.numel() else 0.0 if same else float("inf")
    if isinstance(a, dict):
        return max((apart(a[k], b[k]) for k in a), default=0.0) if a.keys() == b.keys() else float("inf")
    if isinstance(a, list):
        return max(map(apart, a, b), default=0.0) if len(a) == len(b) else float("inf")
    return abs(a - b) if isinstance(a, float | int) else 0.0 if a == b else float("inf")


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of every case and of runs that were stopped, before one of them failed."""
    out = tmp_path_factory.mktemp(request.param)
    dist_fit.leave_at(5, "replay", Processes(), out / "one-left")
    cases = [*EQUAL, "half", "dropout", "--parallel", request.param, "--resume", str(out / "one-left")]
    (out / "said").write_text(torchrun(str(SCRIPT), str(out), *cases, folder=out).stderr)
    return out


def left(together: Path, name: str) -> dict[str, Any]:
    assert (together / name).exists(), (together / "said").read_text()
    found: dict[str, Any] = checkpoint.from_bytes((together / name).read_bytes())
    assert found.pop("alike"), "the processes disagree"
    return found


@several
@pytest.mark.parametrize("case", EQUAL)
def test_two_processes_equal_one(together: Path, case: str) -> None:
    assert apart(dist_fit.run(case, Processes()), left(together, case)) < 1e-12


@several
def test_bfloat16_in_two_processes_is_close_to_one(together: Path) -> None:
    one, two = dist_fit.run("half", Processes()), left(together, "half")
    assert apart(one["curve"], two["curve"]) < 0.02
    assert apart(one["weights"], two["weights"]) < 0.05


def test_an_optimizer_that_looks_at_whole_tensors_is_refused_for_pieces() -> None:
    group = object.__new__(Sharded)  # refused before any process is asked
    with pytest.raises(RegraftError, match="Adafactor looks at whole tensors"):
        group.spread(dist_fit.model(), Training(steps=1, batch=1, lr=0.1, optimizer="Adafactor"))


@several
def test_resumed_equals_uninterrupted_bit_for_bit(together: Path) -> None:
    assert apart(left(together, "dropout"), left(together, "dropout-resumed")) == 0.0


@several
def test_a_run_goes_on_under_another_number_of_processes(together: Path) -> None:
    straight = dist_fit.run("replay", Processes())
    assert apart(straight, left(together, "replay-resumed")) < 1e-12
    assert checkpoint.newest(together / "replay-left")[0]["progress"][0] == 5
    assert apart(straight, dist_fit.run("replay", Processes(), together / "replay-left")) < 1e-12


@several
def test_each_process_has_dropout_of_its_own(together: Path) -> None:
    assert apart(dist_fit.run("dropout", Processes())["weights"], left(together, "dropout")["weights"]) > 1e-6


@several
def test_an_error_in_one_process_ends_all_and_is_said_once(together: Path) -> None:
    said = (together / "said").read_text()
    assert said.count("RegraftError: the second process failed") == 1
    assert "gloo" not in said


def plain(training: Training) -> tuple[dict[str, Tensor], Fitted]:
    torch.manual_seed(0)
    student = Classifier(nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 5)))
    table = dist_fit.rows(50, 0)
    data = Rows({**table, "x": table["x"].float()})
    fitted = fit(student, dist_fit.PLAIN, {"new": data}, training, monitors={"held": data.take(slice(0, 9))})
    return student.state(), fitted


def test_bfloat16_keeps_the_weights_in_float32() -> None:
    exact, one = plain(Training(**dist_fit.SETTINGS))
    rough, two = plain(Training(**dist_fit.SETTINGS, precision="bfloat16"))
    assert {t.dtype for t in rough.values()} == {torch.float32}
    assert 0 < apart(one.curve, two.curve) < 0.01
    assert apart(exact, rough) < 0.05


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.soak)])
def test_a_compiled_model_learns_the_same(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no compiler")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    exact, one = plain(Training(**dist_fit.SETTINGS))
    compiled, two = plain(Training(**dist_fit.SETTINGS, compile=True))
    assert list(compiled) == list(exact)
    assert apart(one.curve, two.curve) < 1e-5
    assert apart(exact, compiled) < 1e-5


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new line, and texts to learn and to keep."""
    from regraft.recipes.adoption import adopt
    from regraft.worlds.llama import bpe, llama, save

    folder = tmp_path_factory.mktemp("line")
    dice = torch.Generator().manual_seed(0)
    words = {"fruit": "apple pear plum fig lime red", "tools": "saw hammer nail drill bolt hard"}
    for name, each in words.items():
        texts = [" ".join(each.split()[i] for i in torch.randint(6, (24,), generator=dice)) for _ in range(80)]
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": f"{t} {i}"}) + "\n" for i, t in enumerate(texts))
        )
    save(llama(bpe(words.values(), 300), width=16, depth=2, heads=2, context=32), folder / "model")
    adopt(str(folder / "model"), folder / "line")
    return folder


ORDER = ["--data", "fruit.jsonl", "--keep", "tools.jsonl", "--set", "tokens=2048", "--set", "batch_tokens=288"]
ORDER += ["--set", "lr=0.01", "--set", "schedule=infinite", "--set", "micro_tokens=64"]


@several
def test_learn_in_two_processes_makes_the_version_of_one(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.cli.app import app
    from regraft.store import Line

    shutil.copytree(line / "line", line / "alone")
    done = torchrun("-m", "regraft", "learn", "line", *ORDER, folder=line)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(line)
    monkeypatch.setenv("REGRAFT_CACHE", str(line / "cache"))
    app(["learn", "alone", *ORDER], standalone_mode=False)
    two, one = Line.open(line / "line"), Line.open(line / "alone")
    a, b = one.version("head"), two.version("head")
    assert len(two.versions()) == 2
    assert not two.runs()
    assert not two.verify().damaged
    assert (a.parents, a.corpora, a.files, a.record, a.message) == (b.parents, b.corpora, b.files, b.record, b.message)
    assert a.bundles.keys() == b.bundles.keys()
    for name in a.bundles:
        assert apart(dict(one.load(a, name)), dict(two.load(b, name))) < 1e-5
    assert apart(a.evidence["curve"], b.evidence["curve"]) < 1e-5  # type: ignore[index,call-overload]


@several
def test_bad_input_in_two_processes_is_one_line(line: Path) -> None:
    (line / "bad.jsonl").write_text('{"text": 5}\n')
    done = torchrun("-m", "regraft", "learn", "line", "--data", "bad.jsonl", "--unprotected", folder=line)
    assert done.returncode != 0
    assert done.stderr.count("regraft: ") == 1
    assert "bad.jsonl:1" in done.stderr


def test_parallel_without_torchrun_is_an_error(tmp_path: Path) -> None:
    from regraft.cli.updates import processes

    with pytest.raises(RegraftError, match="torchrun"), processes("fsdp"):
        pass
    with pytest.raises(RegraftError, match="neither ddp nor fsdp"), processes("fdsp"):
        pass
