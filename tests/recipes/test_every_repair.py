"""What every repair keeps: it spends no more than it was given, runs alike, says what it lacks, and resumes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.numerics.answers import pair_blocks
from regraft.numerics.padded import Padded
from regraft.recipes.adoption import adopt
from regraft.recipes.practise import OnLine
from regraft.recipes.repairing import InMemory, Lesson, Repair, Workshop
from regraft.recipes.resolve import modules
from regraft.recipes.update import Update
from regraft.store import Line
from regraft.worlds import llama, operations
from regraft.worlds.repairs import lesson

NAMES = sorted(modules("repairs"))
STEPS, BATCH = 8, 16


@transform
def digits(rows: Rows, ctx: Context) -> Rows:
    """Right is what begins with a digit: a model that nobody taught does that now and then."""
    return rows.having(reward=torch.tensor([float(text.strip()[:1].isdigit()) for text in rows["written"]]))


def made(name: str) -> Repair:
    found: Callable[[], Repair] = getattr(importlib.import_module(modules("repairs")[name]), name)
    return found()


def network() -> Any:
    return llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)


def asked(each: int = 12, copies: int = 4) -> Lesson:
    found = lesson(0, ("add", "times"), each)
    prompts = Padded.of(found.items["prompt_ids"])
    preferred, other = (Padded.of([[token]] * len(prompts.lengths)) for token in (3, 4))
    pairs = pair_blocks(prompts, preferred, other).having(row=found.items["row"])
    return replace(found, judge=digits(), asking=found.asking._replace(copies=copies), pairs=pairs)


def training(steps: int = STEPS) -> Training:
    return Training(steps, BATCH, 0.01, log_every=1, seed=3)


def repaired(name: str, what: Lesson, steps: int = STEPS) -> tuple[Mapping[str, Tensor], Workshop]:
    w = Workshop(network(), what, training(steps), InMemory())
    made(name)(w)
    return {n: t.clone() for n, t in w.model.state().items()}, w


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


@contextmanager
def only(words: str) -> Iterator[None]:
    """What may be refused, and in which words."""
    try:
        yield
    except RegraftError as error:
        if words not in error.what:
            raise


@pytest.mark.parametrize("name", NAMES)
def test_it_spends_what_it_was_given_and_runs_alike(name: str) -> None:
    first, w = repaired(name, asked())
    again, _ = repaired(name, asked())
    assert 0 <= w.left < STEPS, "something was done, and no more than was to be spent"
    assert same(first, again)
    assert not same(first, network().state())
    assert all(bool(t.isfinite().all()) for t in first.values())
    assert [n for n, _ in w.model.module.named_modules()] == [n for n, _ in network().module.named_modules()]


@pytest.mark.parametrize("name", NAMES)
def test_without_demonstrations_it_does_without_or_says_so(name: str) -> None:
    with only("there are no demonstrations"):
        repaired(name, replace(asked(), shown=None))


@pytest.mark.parametrize("name", NAMES)
def test_without_pairs_it_does_without_or_says_so(name: str) -> None:
    with only("there are no pairs of answers"):
        repaired(name, replace(asked(), pairs=None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("each", "copies", "steps"), [(1, 2, 1), (1, 16, 2), (3, 4, 3)])
def test_odd_sizes(name: str, each: int, copies: int, steps: int) -> None:
    with only("less than a group"):
        after, w = repaired(name, asked(each, copies), steps)
        assert 0 <= w.left <= steps
        assert all(bool(t.isfinite().all()) for t in after.values())


class _Stopped(Exception):
    pass


class _Listener:
    """Stops a run at a record."""

    def __init__(self, left: int) -> None:
        self.left = left

    def stage(self, name: str) -> None: ...
    def plan(self, steps: int, seconds: float | None) -> None: ...
    def notice(self, text: str) -> None: ...
    def record(self, record: Mapping[str, float]) -> None:
        self.left -= 1
        if not self.left:
            raise _Stopped


@pytest.fixture
def line(tmp_path: Path) -> Line:
    llama.save(network(), tmp_path / "model")
    return adopt(str(tmp_path / "model"), tmp_path / "line")[0]


@pytest.mark.parametrize("at", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_on_a_line_a_stopped_run_ends_in_the_same_bits(name: str, at: int, line: Line) -> None:
    def on_line(run: str, left: int) -> Mapping[str, Tensor]:
        u = Update(line, line.version("head"), run, listener=_Listener(left), checkpoint_seconds=0.0)
        made(name)(Workshop(u.model, asked(), training(), OnLine(u, [])))
        return {n: t.clone() for n, t in u.model.state().items()}

    whole = on_line("whole", -1)
    with suppress(_Stopped):
        on_line("cut", at)
    assert same(whole, on_line("cut", -1))


def test_what_the_checker_cannot_judge_is_said() -> None:
    @transform
    def broken(rows: Rows, ctx: Context) -> Rows:
        fault = ["it hangs" if row % 2 else "" for row in range(rows.count)]
        return rows.having(reward=torch.zeros(rows.count), fault=fault)

    doer = InMemory()
    w = Workshop(network(), replace(asked(), judge=broken()), training(2), doer)
    w.tried()
    assert doer.notes == ["checker    48 answers: it hangs"]
    w.fit(w.reinforced())
    assert doer.notes[1:] == [f"checker    {BATCH} answers: it hangs"]
