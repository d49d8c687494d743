"""Interrupts, second writers, full disks, lost rights, flipped bits: one clear line, a whole line, the same version."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trust_world import NEW, Server, Shell, copy_line, files, head, learn, make_world, rows, server, whole

from regraft.cli import runs
from regraft.store import Line

OFTEN = ("--checkpoint-seconds", "0.03")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def forks(world: Path) -> Iterator[Server]:
    with server(world) as found:
        yield found


@pytest.fixture(scope="module")
def updated(world: Path, forks: Server) -> Path:
    """The line after the undisturbed update."""
    line = copy_line(world, world / "updated")
    ended = forks.run(learn(world, line), cache=world / "cache")
    assert ended.code == 0, ended.text
    return line


@pytest.fixture(scope="module")
def stopped(world: Path, forks: Server) -> Path:
    """The line with an update that was stopped by Ctrl-C in its training, with two checkpoints."""
    line = copy_line(world, world / "stopped")
    ended = forks.run(
        learn(world, line, *OFTEN), cache=world / "cache", at=("open", "at/.step-", 5), number=signal.SIGINT
    )
    assert ended.code == 130, ended.text
    return line


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], world: Path) -> Shell:
    monkeypatch.setenv("REGRAFT_CACHE", str(world / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Shell(monkeypatch, capfd)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (("open", "cache/building", 3), "Nothing was begun: give the same command again"),
        (("os.rename", "00/done", 1), "Go on with --resume"),
        (("open", "at/.step-", 5), "stopped at step"),
        (("os.rename", "01/done", 1), "Go on with --resume"),
        (("os.rename", "blobs", 30), "Go on with --resume"),
    ],
    ids=["reading", "measuring", "training", "keeping the result", "committing"],
)
def test_ctrl_c_leaves_a_run_that_can_be_resumed(
    world: Path, forks: Server, updated: Path, tmp_path: Path, at: tuple[str, str, int], says: str
) -> None:
    line = copy_line(world, tmp_path / "line")
    ended = forks.run(learn(world, line, *OFTEN), cache=tmp_path / "cache", at=at, number=signal.SIGINT)
    assert (ended.code, says in ended.error) == (130, True), ended.text
    assert whole(line)
    resume = ["--resume"] if runs.unfinished(Line.open(line)) else []
    assert ("--resume" in ended.error) == bool(resume)
    ended = forks.run(learn(world, line, *resume), cache=tmp_path / "cache")
    assert (ended.code, head(line)) == (0, head(updated)), ended.text


def test_a_second_writer_is_told_who_writes(shell: Shell, world: Path, tmp_path: Path) -> None:
    line = copy_line(world, tmp_path / "line")
    hold = (
        "import sys; from regraft.store import Line\nwith Line.open(sys.argv[1]).writing(): print(flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(line)], **pipes) as writer:  # type: ignore[call-overload]
        writer.stdout.readline()
        for command in (learn(world, line), ["learn", line, "--resume"], ["gc", line], ["rollback", line, "v1"]):
            ended = shell(*command)
            assert ended.code == 2
            assert f"another process is writing here: -c {line} (pid {writer.pid} on" in ended.error
        for command in (["log", line], ["verify", line], ["show", line]):
            assert shell(*command).code == 0
        writer.kill()
    assert shell(*learn(world, line, "--plan-only")).code == 0


@pytest.mark.parametrize("largest", [300, 3_000, 12_000, 30_000, 100_000])
def test_a_full_disk_stops_an_update_that_goes_on_later(
    world: Path, forks: Server, updated: Path, tmp_path: Path, largest: int
) -> None:
    """No file can grow past a size, from too small for the ledger to too small for a checkpoint."""
    line = copy_line(world, tmp_path / "line")
    ended = forks.run(learn(world, line, *OFTEN), cache=tmp_path / "cache", largest_file=largest)
    assert ended.code == 2
    assert "size limit" in ended.error or "file too large" in ended.error.lower()
    assert whole(line)
    resume = ["--resume"] if runs.unfinished(Line.open(line)) else []
    ended = forks.run(learn(world, line, *resume), cache=tmp_path / "cache")
    assert (ended.code, head(line)) == (0, head(updated)), ended.text


FULL = {
    "storing the text": ("os.rename", "blobs", 2),
    "writing the order": ("os.rename", "ledger.sqlite", 2),
    "measuring": ("open", "00/done/.step-", 1),
    "checkpointing": ("open", "at/.step-", 4),
    "storing the version": ("os.rename", "blobs", 30),
    "writing the ledger": ("os.rename", "ledger.sha256", 3),
}


@pytest.mark.parametrize("moment", FULL)
def test_a_disk_that_fills(world: Path, forks: Server, updated: Path, tmp_path: Path, moment: str) -> None:
    line = copy_line(world, tmp_path / "line")
    ended = forks.run(learn(world, line, *OFTEN), cache=tmp_path / "cache", at=FULL[moment], largest_file=100)
    assert ended.code == 2
    assert "size limit" in ended.error or "file too large" in ended.error
    assert whole(line)
    assert len(Line.open(line).versions()) == 1
    resume = ["--resume"] if runs.unfinished(Line.open(line)) else []
    ended = forks.run(learn(world, line, *resume), cache=tmp_path / "cache")
    assert (ended.code, head(line)) == (0, head(updated)), ended.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many bytes, mounted; called again, it has that size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        how = f"{'remount,' if place.is_mount() else ''}size={size}"
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting is not allowed here")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("left", [0, 16, 64, 160, 320])
def test_a_disk_that_is_really_full(
    world: Path, forks: Server, updated: Path, small_disk: Callable[[int], Path], tmp_path: Path, left: int
) -> None:
    line = copy_line(world, small_disk(64 << 20) / "line")
    disk = shutil.disk_usage(line)
    small_disk(disk.used + (left << 10))
    ended = forks.run(learn(world, line, *OFTEN), cache=tmp_path / "cache")
    assert ended.code == 2
    assert "the disk is full" in ended.error or "no space left" in ended.error
    assert whole(line)
    small_disk(64 << 20)
    resume = ["--resume"] if runs.unfinished(Line.open(line)) else []
    ended = forks.run(learn(world, line, *resume), cache=tmp_path / "cache")
    assert (ended.code, head(line)) == (0, head(updated)), ended.text


def test_an_adoption_that_was_cut_short_is_done_again(world: Path, forks: Server, tmp_path: Path) -> None:
    adopt = ["adopt", str(world / "model"), str(tmp_path / "line")]
    ended = forks.run(adopt, cache=tmp_path, at=("os.rename", "blobs", 5), largest_file=100)
    assert (ended.code, "size limit" in ended.error) == (2, True), ended.text
    assert forks.run(adopt, cache=tmp_path, at=("os.rename", "blobs", 5)).code == -9
    ended = forks.run(adopt, cache=tmp_path)
    assert ended.code == 0, ended.text
    assert head(tmp_path / "line") == head(world / "line")
    again = forks.run(adopt, cache=tmp_path)
    assert (again.code, "this is already a line" in again.error) == (2, True)


def test_a_read_only_line_is_read_and_not_updated(world: Path, forks: Server, updated: Path, tmp_path: Path) -> None:
    line = tmp_path / "line"
    shutil.copytree(updated, line)
    before = files(line)
    places = [line, *line.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for command in (["log", str(line)], ["show", str(line)], ["verify", str(line)]):
            ended = forks.run(command, cache=tmp_path, plain_user=True)
            assert ended.code == 0, ended.text
        for command in (learn(world, line), ["gc", str(line)], ["rollback", str(line), "v1"]):
            ended = forks.run(command, cache=tmp_path, plain_user=True)
            assert (ended.code, "permission denied" in ended.error) == (2, True), ended.text
    finally:
        for path in places:
            path.chmod(0o755)
    assert files(line) == before


def flip(path: Path, dice: random.Random) -> bytes:
    """Flips one bit of a file; what it was."""
    whole_file = path.read_bytes()
    harmed = bytearray(whole_file)
    harmed[dice.randrange(len(harmed))] ^= 1 << dice.randrange(8)
    path.write_bytes(harmed)
    return whole_file


def test_a_flipped_bit_in_any_file_is_found_and_named(shell: Shell, stopped: Path) -> None:
    dice = random.Random(3)
    stored = [path for path in sorted(stopped.rglob("*")) if path.is_file() and path.name != "lock"]
    assert any("at/step-" in str(path) for path in stored)
    for path in stored:
        was = flip(path, dice)
        ended = shell("verify", stopped)
        path.write_bytes(was)
        assert (ended.code, f"{path}: " in ended.text) == (4, True), (path, ended.text)
    assert shell("verify", stopped).code == 0


def test_what_is_damaged_is_not_read(shell: Shell, updated: Path, world: Path, tmp_path: Path) -> None:
    """Each command that needs the file stops with its name; the others do not mind."""
    line = tmp_path / "line"
    shutil.copytree(updated, line)
    opened = Line.open(line)
    version = opened.version("head")
    tensor = next(iter(version.bundles["release"].values())).digest
    config = version.files["config.json"]
    reading = next(iter(version.bundles["evidence/after/new"].values())).digest
    [corpus] = [use.corpus for use in version.corpora if use.role == "new"]
    shard = opened.corpus(corpus)["shards"][0]["digest"]
    (tmp_path / "more.jsonl").write_text(rows(NEW, 20, 9))
    more = ["learn", line, "--data", tmp_path / "more.jsonl", "--plan-only"]
    needs = {
        tensor: [["export", line, tmp_path / "export"], more],
        config: [["export", line, tmp_path / "export"], more],
        version.id: [["show", line], ["export", line, tmp_path / "export"], more],
        reading: [["compare", line, "v1", "v2"], ["check", line, "v1", "v2"]],
        corpus: [["show", line, "--rows", "999"], more],
        shard: [more],
    }
    for digest, commands in needs.items():
        path = opened.blobs.path(digest)
        was = flip(path, random.Random(digest))
        for command in commands:
            ended = shell(*command)
            assert (ended.code, str(path) in ended.error) == (4, True), (command, ended.text)
            assert not (tmp_path / "export").exists()
        path.write_bytes(was)
    assert Line.open(line).pointers() == opened.pointers()
    for name in ("ledger.sqlite", "ledger.sha256", "regraft.json"):
        was = flip(line / name, random.Random(name))
        for command in (["log", line], ["show", line], ["export", line, tmp_path / "export"], more):
            ended = shell(*command)
            assert (ended.code, name in ended.error) == (4, True), (command, ended.text)
        (line / name).write_bytes(was)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(
    shell: Shell, stopped: Path, updated: Path, tmp_path: Path, name: str
) -> None:
    line = tmp_path / "line"
    shutil.copytree(stopped, line)
    newest = sorted(line.glob("runs/*/01/at/step-*"))[-1] / name
    flip(newest, random.Random(0))
    ended = shell("learn", line, "--resume")
    assert (ended.code, head(line)) == (0, head(updated)), ended.text
    assert f"{newest}: the content is not what was written; the checkpoint before it serves" in ended.text


def test_a_damaged_order_is_named(shell: Shell, stopped: Path, world: Path, updated: Path, tmp_path: Path) -> None:
    line = tmp_path / "line"
    shutil.copytree(stopped, line)
    [order] = line.glob("runs/*/order.json")
    flip(order, random.Random(1))
    ended = shell("learn", line, "--resume")
    assert (ended.code, str(order) in ended.error) == (4, True)
    assert (shell(*learn(world, line, "--restart")).code, head(line)) == (0, head(updated))


def test_poisoned_weights_are_not_adopted(shell: Shell, world: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(world / "model", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    ended = shell("adopt", tmp_path / "model", tmp_path / "line")
    assert ended.code == 2
    assert "model.layers.1.mlp.up_proj.weight" in ended.error
    assert not (tmp_path / "line").exists()


@pytest.mark.parametrize(
    "knobs", [["lr=1000000.0"], ["lr=1.0e+30", "optimizer=SGD", "optimizer_knobs={}", "clip=null"]]
)
def test_a_loss_that_explodes_stops_the_run_and_the_line_is_as_before(
    shell: Shell, world: Path, tmp_path: Path, knobs: list[str]
) -> None:
    line = copy_line(world, tmp_path / "line")
    more = [word for knob in knobs for word in ("--set", knob)]
    ended = shell(*learn(world, line, *OFTEN, *more))
    assert ended.code == 2
    assert "stands at its last good checkpoint, step" in ended.error
    assert whole(line)
    assert len(Line.open(line).versions()) == 1
    assert shell(*learn(world, line, "--restart")).code == 0


def test_an_export_loads_without_regraft(shell: Shell, updated: Path, tmp_path: Path) -> None:
    import torch

    from regraft.recipes.update import load_model

    assert shell("export", updated, tmp_path / "export").code == 0
    code = """
import json, sys
sys.modules["regraft"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(sys.argv[1])("the cat sat on def return", return_tensors="pt").input_ids
print(json.dumps([ids.tolist(), model(ids).logits.tolist()]))
"""
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "export")], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    ids, logits = json.loads(said)
    line = Line.open(updated)
    ours = load_model(line, line.version("head"))
    ours.module.eval()
    with torch.no_grad():
        assert torch.equal(ours.module(torch.tensor(ids)).logits, torch.tensor(logits))


@pytest.mark.parametrize("command", [["log"], ["log", "--events"], ["show"], ["compare", "v1", "v2", "--json"]])
def test_a_reader_that_leaves_is_no_error(updated: Path, command: list[str]) -> None:
    name, *more = command
    code = "import sys; from regraft.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, name, str(updated), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
    assert said == ""
