"""Killed at any instant, an update leaves a line that verifies, and goes on to the same version, bit for bit."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from trust_world import Ended, Server, copy_line, head, learn, make_world, server, whole

from regraft.cli import runs
from regraft.store import Line

OFTEN = ("--checkpoint-seconds", "0.03")


@dataclass(frozen=True)
class Scene:
    """The world, the server, the version that the undisturbed update makes, and how long it takes."""

    world: Path
    server: Server
    version: str
    seconds: float

    def update(self, line: Path, **how: object) -> Ended:
        """The update, or the rest of it."""
        opened = Line.open(line)
        command = (
            ["learn", str(line), "--resume", *OFTEN] if runs.unfinished(opened) else learn(self.world, line, *OFTEN)
        )
        return self.server.run(command, cache=line.with_name("cache"), **how)  # type: ignore[arg-type]

    def fresh(self, place: Path) -> Path:
        shutil.rmtree(place / "cache", ignore_errors=True)
        return copy_line(self.world, place / "line")

    def must_end_well(self, line: Path) -> None:
        """Goes on undisturbed if the version is not there, and compares."""
        if len(Line.open(line).versions()) == 1:
            ended = self.update(line)
            assert ended.code == 0, ended.text
        assert head(line) == self.version
        opened = Line.open(line)
        assert len(opened.versions()) == 2
        opened.gc()
        report = opened.verify()
        assert (report.damaged, report.leftover, opened.runs()) == ([], [], [])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    world = make_world(tmp_path_factory.mktemp("world"))
    with server(world) as forks:
        place = world / "undisturbed"
        place.mkdir()
        line = copy_line(world, place / "line")
        ended = forks.run(learn(world, line, *OFTEN), cache=place / "cache")
        assert ended.code == 0, ended.text
        yield Scene(world, forks, head(line), ended.seconds)


def kill_often(scene: Scene, place: Path, kills: int, seed: int) -> None:
    """Kills updates at random instants until so many were hit, each again and again until it is done."""
    dice, hits = random.Random(seed), 0
    while hits < kills:
        line = scene.fresh(place)
        while hits < kills and len(Line.open(line).versions()) == 1:
            ended = scene.update(line, kill_after=dice.uniform(0, scene.seconds))
            assert ended.code in (0, -9), ended.text
            hits += ended.code == -9
            assert whole(line)
        scene.must_end_well(line)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_instants(scene: Scene, tmp_path: Path, seed: int) -> None:
    kill_often(scene, tmp_path, 6, seed)


@pytest.mark.soak
def test_killed_at_many_random_instants(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kill_often(scene, tmp_path, request.config.getoption("--kills"), 2)


INSTANTS = {
    "a text is tokenised": ("open", "cache/building", 3),
    "the order is written": ("os.rename", "order.json", 1),
    "the first measurement is kept": ("os.rename", "00/done", 1),
    "a checkpoint's tensors are written": ("open", "at/.step-", 3),
    "a checkpoint's tree is written": ("open", ".writing/state.json", 4),
    "a checkpoint gets its name": ("os.rename", "at/.step-", 2),
    "an old checkpoint goes": ("shutil.rmtree", ".gone", 1),
    "the result is kept": ("os.rename", "01/done", 1),
    "the second measurement begins": ("os.mkdir", "02/done", 1),
    "a tensor of the version is stored": ("os.rename", "blobs", 30),
    "the ledger's checksum changes": ("os.rename", "ledger.sha256", 3),
    "the ledger changes": ("os.rename", "ledger.sqlite", 3),
    "the run goes": ("shutil.rmtree", "runs", 1),
}


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_when(scene: Scene, tmp_path: Path, instant: str) -> None:
    line = scene.fresh(tmp_path)
    ended = scene.update(line, at=INSTANTS[instant])
    assert ended.code == -9, ended.text
    assert whole(line)
    scene.must_end_well(line)
