"""Rewards that a checker gives: whether what was written answers what was asked.

    R_r = right        if the answer is right
          wrong        if there is one and it is not
          nothing      if no answer was found

by="exact": the answer is one of those accepted, white space aside; by="number": its last number is, up to a part
`tolerance`; by="tests": the program that was written runs to the last line of the row's tests. `by` may be the path of
a Python file, too, which defines `reward(written, item)`: its number is the reward. Programs and files are run in a
sandbox. One that raises, hangs or is ended has the reward `wrong`, and is told in the column `fault`.

Paper:   "TÜLU 3: Pushing Frontiers in Open Language Model Post-Training" Lambert et al. 2024.
         https://arxiv.org/abs/2411.15124
Needs:   a column `written` of texts, and `answer`, a text or those accepted; with by="tests" a column `tests`.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

import atexit
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.sandbox import Limits, Sandbox
from regraft.numerics.verify import Verdict, exact, numeric, programs


@transform
def verified(
    rows: Rows,
    ctx: Context,
    *,
    by: str = "exact",
    marker: str | None = None,
    right: float = 1.0,
    wrong: float = 0.0,
    nothing: float = 0.0,
    fold: bool = False,
    tolerance: float = 1e-6,
    seconds: float = 5.0,
    memory: int = 512,
    jobs: int = 1,
) -> Rows:
    written: list[str] = rows["written"]
    if by.endswith(".py"):
        return _own(rows, Path(by), _sandbox(seconds, memory, jobs), wrong)
    if by == "tests":
        found = programs(written, rows["tests"], _sandbox(seconds, memory, jobs))
    elif by in ("exact", "number"):
        accepted = [[each] if isinstance(each, str) else each for each in rows["answer"]]
        found = [
            exact(text, these, marker=marker, fold=fold)
            if by == "exact"
            else numeric(text, these, marker=marker, tolerance=tolerance)
            for text, these in zip(written, accepted, strict=True)
        ]
    else:
        raise RegraftError(f"verified: by is {by!r}; it must be 'exact', 'number', 'tests' or the path of a .py file")
    worth = [right if v.right else nothing if v.found is None else wrong for v in found]
    return _with(rows, worth, [_fault(v) if by == "tests" else "" for v in found])


def _fault(verdict: Verdict) -> str:
    """What went wrong beside a test that failed."""
    return "" if verdict.why in ("", "no program") or verdict.why.startswith("AssertionError") else verdict.why


def _with(rows: Rows, rewards: Sequence[float], faults: list[str]) -> Rows:
    reward: Tensor = torch.tensor(rewards, dtype=torch.float32)
    return rows.having(reward=reward, fault=faults)


def _own(rows: Rows, path: Path, sandbox: Sandbox, wrong: float) -> Rows:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RegraftError(f"cannot be read: {error}", where=path, do="Give a Python file with a `reward`") from None
    items = [{name: _plain(rows[name], r) for name in rows if name != "written"} for r in range(rows.count)]
    calls = [
        f"{source}\n\nimport json as _json\n_given = _json.loads({json.dumps(json.dumps([text, item]))})\n"
        "print()\nprint(_json.dumps(float(reward(*_given))))"
        for text, item in zip(rows["written"], items, strict=True)
    ]
    rewards, faults = [], []
    for ran in sandbox.run(calls):
        value = math.nan
        if not ran.why:
            value = float(ran.printed.strip().rpartition("\n")[2])
        fault = ran.why or ("" if math.isfinite(value) else f"the reward is {value}")
        rewards.append(wrong if fault else value)
        faults.append(fault)
    return _with(rows, rewards, faults)


def _plain(column: Any, row: int) -> Any:
    """A row's value as JSON has it; nothing for what is no number, text, or list of such."""
    value = column[row]
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() == 1 else None
    return value if isinstance(value, str | int | float | list | dict | None) else None


@lru_cache(maxsize=4)
def _sandbox(seconds: float, memory: int, jobs: int) -> Sandbox:
    made = Sandbox(Limits(seconds=seconds, memory=memory), jobs=jobs)
    atexit.register(made.close)
    return made
