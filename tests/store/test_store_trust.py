"""What a production store must survive: kills, two writers, full disks, read-only folders, flipped bits."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store import Draft, Line
from regraft.store.files import is_aside

COMMIT = """
import os, sys
from regraft.store import Draft, Line

def commit(line, number):
    with line.writing():
        parent = line.versions()[number - 1].id if number else None
        files = {f"{k}.bin": line.put_file(f"{number} {k}".encode() * 1000) for k in range(3)}
        run = f"run-{number}"
        (line.run_dir(run) / "state.json").write_text("{}")
        draft = Draft(parents=(parent,) if parent else (), files=files, record={"number": number})
        return line.commit(draft, {"pid": os.getpid()}, run=run)
"""


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.create(tmp_path / "line")


def commit(line: Line, number: int) -> str:
    scope: dict[str, object] = {}
    exec(COMMIT, scope)
    return scope["commit"](line, number).id  # type: ignore[operator]


def script(*lines: str) -> list[str]:
    return [sys.executable, "-c", COMMIT + "\n".join(lines)]


def snapshot(line: Line) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in line.path.rglob("*") if p.is_file() and p.name != "lock"}


def test_killed_at_every_system_call_of_a_commit_the_line_is_as_before_or_as_after(tmp_path: Path) -> None:
    """A forked writer dies at its n-th file operation, for every n; then the line verifies and the commit succeeds."""
    code = script(
        """
import itertools, shutil
folder = sys.argv[1]
base = Line.create(folder + "/base")
first = commit(base, 0).id
shutil.copytree(folder + "/base", folder + "/whole")
second = commit(Line.open(folder + "/whole"), 1).id
calls = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock", "os.truncate", "shutil.rmtree"}
fsync = os.fsync
seen = set()
for fatal in itertools.count(1):
    path = f"{folder}/{fatal}"
    shutil.copytree(folder + "/base", path)
    child = os.fork()
    if not child:
        left = fatal
        def count(event, args):
            global left
            if event in calls:
                left -= 1
                if not left:
                    os._exit(9)
        os.fsync = lambda handle: (count("open", ()), fsync(handle))
        sys.addaudithook(count)
        commit(Line.open(path), 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    line = Line.open(path)
    ids = [v.id for v in line.versions()]
    assert ids in ([first], [first, second]), ids
    assert line.pointers() == {"head": ids[-1]}
    assert line.verify().damaged == []
    seen.add(len(ids))
    assert commit(line, 1).id == second
    line.gc()
    report = line.verify()
    assert (report.damaged, report.leftover, line.runs()) == ([], [], []), report
    shutil.rmtree(path)
    if status == 0:
        break
    assert os.waitstatus_to_exitcode(status) == 9
assert fatal > 40 and seen == {1, 2}, (fatal, seen)
""",
    )
    subprocess.run([*code, str(tmp_path)], check=True)


def test_kill_9_at_random_instants_of_a_commit_loop(line: Line, tmp_path: Path) -> None:
    whole = Line.create(tmp_path / "whole")
    dice = random.Random(0)
    loop = script("line = Line.open(sys.argv[1])", "print('go', flush=True)", "for n in range(999): commit(line, n)")
    for _ in range(5):
        with subprocess.Popen([*loop, str(line.path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(dice.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        assert line.verify().damaged == []
    ids = [version.id for version in line.versions()]
    commit(line, len(ids))
    assert [commit(whole, n) for n in range(len(ids) + 1)] == [version.id for version in line.versions()]
    line.gc()
    assert line.verify().leftover == []


def test_one_writer_at_a_time_and_readers_meanwhile(line: Line) -> None:
    first = commit(line, 0)
    hold = script("line = Line.open(sys.argv[1])", "with line.writing(): print('held', flush=True); sys.stdin.read()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*hold, str(line.path)], **pipes) as writer:  # type: ignore[call-overload]
        writer.stdout.readline()
        with pytest.raises(RegraftError, match=rf"another process is writing here: -c .*pid {writer.pid} on"):
            commit(line, 1)
        assert line.version("head").id == first
        assert line.verify().damaged == []
        writer.kill()
    commit(line, 1)
    assert line.version("head").number == 2


def test_the_lock_is_re_entrant_and_a_forked_child_does_not_keep_it(line: Line) -> None:
    code = script(
        """
line = Line.open(sys.argv[1])
with line.writing(), Line.open(sys.argv[1]).writing():
    commit(line, 0)
    child = os.fork()
    if not child:
        try:
            line.put_file(b"x")
        except Exception as error:
            assert "another process" in str(error), error
            os.close(1)
            import time
            time.sleep(60)
        os._exit(1)
    print(child, flush=True)
    os._exit(0)
"""
    )
    out = subprocess.run([*code, str(line.path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    try:
        commit(line, 1)
    finally:
        os.kill(int(out), signal.SIGKILL)


def test_a_reader_sees_the_commits_of_another_process(line: Line) -> None:
    assert line.versions() == []
    subprocess.run([*script("commit(Line.open(sys.argv[1]), 0)"), str(line.path)], check=True)
    assert len(line.versions()) == 1
    commit(line, 1)
    assert len(line.versions()) == 2


def test_a_reader_never_sees_a_torn_ledger(line: Line) -> None:
    loop = script("line = Line.open(sys.argv[1])", "for n in range(40): commit(line, n)")
    with subprocess.Popen([*loop, str(line.path)]) as writer:
        counts = []
        while writer.poll() is None:
            counts.append(len(Line.open(line.path).versions()))
    assert counts == sorted(counts)
    assert len(line.versions()) == 40


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write anywhere, so the test puts on other clothes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder_is_read_and_not_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        line = Line.create(Path(folder) / "line")
        first = commit(line, 0)
        digest = next(iter(line.version("head").files.values()))
        everything = [Path(folder), *Path(folder).rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = snapshot(line)
        with as_nobody():
            reader = Line.open(line.path)
            assert reader.version("head").id == first
            assert reader.verify().damaged == []
            assert reader.bytes(digest)
            assert (reader.events()[0].what, reader.runs()) == ("create", [])
            for write in (
                lambda: reader.put_file(b"new"),
                lambda: reader.commit(Draft()),
                lambda: reader.point("released", "v1"),
                lambda: reader.rollback("v1"),
                lambda: reader.run_dir("new"),
                reader.gc,
                lambda: Line.create(Path(folder) / "other"),
            ):
                with pytest.raises(RegraftError, match="permission denied"):
                    write()
        assert snapshot(line) == before
        for path in everything:
            path.chmod(0o755)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_does_not_fit_leaves_nothing(line: Line, tmp_path: Path) -> None:
    commit(line, 0)
    (tmp_path / "large").write_bytes(b"x" * 9000)
    before = snapshot(line)
    with file_size_limit(4096):
        for write in (
            lambda: line.put_file(b"x" * 9000),
            lambda: line.put_file(tmp_path / "large"),
            lambda: line.point("released", "v1"),
        ):
            with pytest.raises(RegraftError, match="size limit"):
                write()
    assert {k: v for k, v in snapshot(line).items() if not k.endswith("sha256")} == {
        k: v for k, v in before.items() if not k.endswith("sha256")
    }
    assert line.verify().damaged == []
    line.point("released", "v1")
    assert line.verify().leftover == []


def test_a_disk_that_fills_at_any_write_gives_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, left = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    for moment in range(1, 100):
        left = 0
        line = Line.create(tmp_path / str(moment))
        left, messages = moment, []
        try:
            commit(line, 0)
        except RegraftError as error:
            messages.append(str(error))
        done = left > 0
        assert all("the disk is full" in message and "\n" not in message for message in messages)
        assert done or messages
        left = 0
        assert not [p for p in line.path.rglob("*") if is_aside(p)]
        assert line.verify().damaged == []
        commit(line, 0)
        assert len(line.versions()) == 1
        if done:
            break
    else:
        pytest.fail("the commit never finished")


def test_a_flipped_bit_in_any_file_is_found_and_named(line: Line) -> None:
    first, second = commit(line, 0), commit(line, 1)
    used = {
        digest: first if version.number == 1 else second
        for version in line.versions()
        for digest in version.files.values()
    }
    dice = random.Random(1)
    stored = [p for p in sorted(line.path.rglob("*")) if p.is_file() and p.name != "lock"]
    assert len(stored) == 3 + 2 + 6
    for path in stored:
        whole = path.read_bytes()
        for _ in range(3):
            harmed = bytearray(whole)
            harmed[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
            path.write_bytes(harmed)
            (damage,) = line.verify().damaged
            assert damage.path == path
            if path.name in used:
                assert damage.versions == (used[path.name],)
        path.write_bytes(whole)
    assert line.verify().damaged == []


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.sha256", "regraft.json"])
def test_a_damaged_ledger_is_never_read(line: Line, name: str) -> None:
    commit(line, 0)
    path = line.path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        harmed = bytearray(whole)
        harmed[place] ^= 1
        path.write_bytes(harmed)
        with pytest.raises(DamagedStore, match=name) as caught:
            Line.open(line.path).versions()
        assert caught.value.exit_code == 4
    path.write_bytes(whole[:-1])
    with pytest.raises(DamagedStore, match=name):
        Line.open(line.path).versions()
    path.write_bytes(whole)
    assert len(Line.open(line.path).versions()) == 1


def test_missing_files_are_found(line: Line) -> None:
    first = commit(line, 0)
    digest = next(iter(line.version("head").files.values()))
    for path in (
        line.blobs.path(digest),
        line.blobs.path(first),
        line.path / "ledger.sqlite",
        line.path / "ledger.sha256",
    ):
        whole = path.read_bytes()
        path.unlink()
        for deep in (True, False):
            (damage,) = line.verify(deep=deep).damaged
            assert damage.path == path
        path.write_bytes(whole)
    assert line.verify().checked == 3 + 4


def test_verify_reports_its_progress(line: Line) -> None:
    commit(line, 0)
    steps: list[tuple[int, int]] = []
    line.verify(progress=lambda done, total: steps.append((done, total)))
    assert len(steps) == 4
    assert steps[-1][0] == steps[-1][1] > 0
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/cron.d/evil", "a/../../b", "C:\\evil", "a\\b", "", ".", "a//b", "x\n"]
)
def test_a_hostile_manifest_names_no_path_outside_the_folder(line: Line, name: str) -> None:
    manifest = dict(json.loads(json.dumps(Draft(message="evil").manifest())))
    digest = line.put_json({**manifest, "files": {name: line.put_file(b"evil")}})
    with pytest.raises(RegraftError, match="outside the folder") as caught:
        line.content(digest)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a": "../../lock"}},
        {"bundles": {"release": {"w": {"digest": "x", "dtype": "float32", "shape": [1]}}}},
        {"bundles": {"release": {"w": {"digest": "0" * 64, "dtype": "float32", "shape": [-1]}}}},
        {"bundles": []},
        {"parents": [3]},
        {"corpora": [{"corpus": "0" * 64}]},
        {"kind": "corpus"},
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(line: Line, change: dict[str, object]) -> None:
    manifest = dict(json.loads(json.dumps(Draft(message="odd").manifest())))
    with pytest.raises(DamagedStore, match="manifest of a version"):
        line.content(line.put_json({**manifest, **change}))  # type: ignore[dict-item]


def test_a_newer_manifest_says_so(line: Line) -> None:
    manifest = dict(json.loads(json.dumps(Draft().manifest())))
    with pytest.raises(RegraftError, match="newer regraft"):
        line.content(line.put_json({**manifest, "format": 2}))
