"""A warm process whose forks run commands of regraft, to be killed: a start costs milliseconds, not seconds.

Each line of standard input is an order in JSON (see `trust_world.Server.run`), each line of standard output its end.
The server itself starts no thread, so that its forks are as good as fresh processes.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

WARM = """
regraft.cli.app regraft.cli.updates regraft.cli.history regraft.cli.judge regraft.recipes.adoption regraft.recipes.learn
regraft.evidence.compare regraft.evidence.gate regraft.parts.schedules.rewarm regraft.parts.samplers.shuffled
regraft.store.export scipy.stats transformers.models.llama.modeling_llama transformers.models.auto.modeling_auto
transformers.tokenization_utils_tokenizers huggingface_hub.errors
"""


def main() -> None:
    import torch

    torch.set_num_threads(1)
    for module in WARM.split():
        importlib.import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        ours, theirs = (
            os.pipe()
        )  # holds what a command says; a file would feel the limits that the command is put under
        child = os.fork()
        if not child:
            _child(order, theirs)
        os.close(theirs)
        code = _wait(child, order["kill_after"], order["signal"])
        seconds = time.monotonic() - began
        with open(ours, encoding="utf-8") as pipe:
            print(json.dumps({"code": code, "text": pipe.read(), "seconds": seconds}), flush=True)


def _wait(child: int, kill_after: float | None, number: int) -> int:
    """The child's exit code, minus the signal's number if one ended it."""
    until = None if kill_after is None else time.monotonic() + kill_after
    while until is not None:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(child, number)
            break
        time.sleep(0.0005)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _child(order: dict[str, Any], output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["REGRAFT_CACHE"] = order["cache"]
    os.chdir(order["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process is begun without
    code: Any = 70
    try:
        largest = order["largest_file"]
        fault = (lambda: os.kill(os.getpid(), order["signal"])) if largest is None else (lambda: _fill_disk(largest))
        if order["at"]:
            _watch(*order["at"], fault)
        elif largest is not None:
            fault()
        if order["plain_user"]:
            _lose_rights()
        sys.argv = ["regraft", *order["arguments"]]
        from regraft.cli import main as command

        command()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fill_disk(largest: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _lose_rights() -> None:
    """Root may write anywhere; without these capabilities it is told as others are what its files allow."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    override, read_search, owner = 1, 2, 3
    kept = ~(1 << override | 1 << read_search | 1 << owner) & 0xFFFFFFFF
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    sets[0] &= kept
    assert libc.capset(header, sets) == 0


def _watch(event: str, fragment: str, occurrence: int, fault: Callable[[], None]) -> None:
    """Does `fault` when Python is about to do `event` to a path with `fragment` in it for the n-th time."""
    left = occurrence

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if name == event and any(fragment in os.fsdecode(a) for a in args if isinstance(a, str | bytes | os.PathLike)):
            left -= 1
            if not left:
                fault()

    sys.addaudithook(hook)


main()
