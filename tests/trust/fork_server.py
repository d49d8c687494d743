"""A warm process whose forks run commands of regraft, to be killed: a start costs milliseconds, not seconds.

Each line of standard input is an order in JSON (see `trust_world.Server.run`), each line of standard output its end.
The server itself starts no thread, so that its forks are as good as fresh processes.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

WARM = """
regraft.cli.app regraft.cli.updates regraft.cli.history regraft.cli.judge regraft.recipes.adopt regraft.recipes.learn
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
        child = os.fork()
        if not child:
            _child(order)
        code = _wait(child, order["kill_after"], order["signal"])
        print(json.dumps({"code": code, "seconds": time.monotonic() - began}), flush=True)


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


def _child(order: dict[str, Any]) -> None:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["REGRAFT_CACHE"] = order["cache"]
    os.chdir(Path(order["output"]).parent)
    code: Any = 70
    try:
        if order["at"]:
            _watch(*order["at"], order["signal"])
        if order["largest_file"]:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], hard))
        if order["user"]:
            os.seteuid(order["user"])
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


def _watch(event: str, fragment: str, occurrence: int, number: int) -> None:
    """Sends itself a signal when Python is about to do `event` to a path with `fragment` in it for the n-th time."""
    left = occurrence

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if name == event and any(fragment in os.fsdecode(a) for a in args if isinstance(a, str | bytes | os.PathLike)):
            left -= 1
            if not left:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)


main()
