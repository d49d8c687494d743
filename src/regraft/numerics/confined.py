"""Runs Python programs one after the other, each in a child that has given up its rights.

`sandbox` starts this file as a process of its own: it imports only the standard library, and so forks quickly. A
request is a line of JSON: `program`, `seconds`, `memory` (bytes), `output` (bytes). The answer is one too: `why` a
program did not run to its end, or nothing, and the end of what it `printed`.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from typing import Any, NoReturn

# What a program needs to compute, read files and print, by its number on x86-64 and on 64-bit ARM (None: it is not
# there). All else is denied: processes and threads, network, changes to files, other processes, new rights.
ALLOWED: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "pipe": (22, None),
    "select": (23, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "fcntl": (72, 25),
    "getcwd": (79, 17),
    "readlink": (89, None),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "statx": (332, 291),
    "rseq": (334, 293),
    "faccessat2": (439, 439),
}
OPENING: dict[str, tuple[int, int | None]] = {"open": (2, None), "openat": (257, 56)}
"""Allowed to read."""
FLAGS = {"open": 1, "openat": 2}
"""Which argument holds the flags."""
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

LOAD, EQUAL, ANY_BIT, GIVE = 0x20, 0x15, 0x45, 0x06
ALLOW, DENY = 0x7FFF0000, 0x00050001  # EPERM
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def give_up_rights() -> None:
    """From here on this process may make no system call but those allowed. OSError where that cannot be had."""
    if platform.machine() not in MACHINES or sys.platform != "linux":
        raise OSError("only Linux on x86-64 and 64-bit ARM lets a process give up its rights")
    column, machine = MACHINES[platform.machine()]
    rules = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (GIVE, 0, 0, DENY), (LOAD, 0, 0, 0)]
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            rules += [(EQUAL, 0, 1, number), (GIVE, 0, 0, ALLOW)]
    for name, numbers in OPENING.items():
        if (number := numbers[column]) is not None:
            rules += [(EQUAL, 0, 4, number), (LOAD, 0, 0, 16 + 8 * FLAGS[name]), (ANY_BIT, 1, 0, CHANGING)]
            rules += [(GIVE, 0, 0, ALLOW), (GIVE, 0, 0, DENY)]
    rules.append((GIVE, 0, 0, DENY))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = _Program(len(rules), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not let a process give up its rights")


def answer(request: dict[str, Any]) -> dict[str, str]:
    """Runs one program in a child."""
    said, says = os.pipe()
    printed, prints = os.pipe()
    token = os.urandom(16).hex()
    child = os.fork()
    if not child:
        _run(request, token, says, prints)
    os.close(says)
    os.close(prints)
    until = time.monotonic() + request["seconds"]
    kept = {said: b"", printed: b""}
    most = {said: 1 << 14, printed: request["output"]}
    ending = {said, printed}
    status = None
    while status is None and (left := until - time.monotonic()) > 0:
        if not ending:  # it closed what it could say; it may still run
            done, ended = os.waitpid(child, os.WNOHANG)
            status = ended if done else None
            time.sleep(0 if done else 0.001)
            continue
        for pipe in select.select(list(ending), [], [], left)[0]:
            some = os.read(pipe, 1 << 16)
            kept[pipe] = (kept[pipe] + some)[-most[pipe] :] if most[pipe] else b""
            if not some:
                ending.remove(pipe)
    os.close(said)
    os.close(printed)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    why = f"ran longer than {request['seconds']:g} s" if status is None else _why(kept[said], token, status)
    return {"why": why, "printed": kept[printed].decode(errors="replace")}


def _why(report: bytes, token: str, status: int) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(report)
        if said["token"] == token:
            return str(said["why"])
    if os.WIFSIGNALED(status):
        return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return "ended itself before its last line"


def _run(request: dict[str, Any], token: str, says: int, prints: int) -> NoReturn:
    """The child: runs the program, and says what came of it."""
    why = "did not begin"
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        report = os.dup2(says, 9)
        for at, pipe in enumerate((nothing, prints, prints)):
            os.dup2(pipe, at)
        os.closerange(3, 9)
        os.closerange(10, 1 << 16)
        for limit, most in (
            (resource.RLIMIT_CPU, int(request["seconds"]) + 1),
            (resource.RLIMIT_AS, request["memory"]),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NOFILE, 64),
        ):
            resource.setrlimit(limit, (most, most))
        give_up_rights()
        exec(compile(request["program"], "<program>", "exec"), {"__name__": "__main__"})
        why = ""
    except BaseException as error:
        with contextlib.suppress(BaseException):
            why = f"{type(error).__name__}: {error}"[:500]
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    with contextlib.suppress(BaseException):
        os.write(report, json.dumps({"token": token, "why": why}).encode())
    os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
