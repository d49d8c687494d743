"""What the tests of parts share: small tables, a small classifier, a run, and a run that is stopped and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regraft.core.parts import Context, Progress
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import Fitted, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled

STEPS = 12
PLAIN = Plan(feeds=(Feed("new", shuffled("new")),), losses=(Weighted(nll()),))
SETTINGS = Training(steps=STEPS, batch=8, lr=0.05, clip=None, log_every=1)


class Stop(Exception):
    """The run is killed."""


def table(count: int, seed: int = 0, sources: list[Any] | None = None) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    rows = Rows(
        {
            "x": torch.randn(count, 4, generator=dice, dtype=torch.float64),
            "y": torch.randint(0, 3, (count,), generator=dice),
            "row": torch.arange(count),
        }
    )
    return rows if sources is None else rows.having(source=sources)


def context(
    data: Mapping[str, Rows] | None = None,
    *,
    steps: int = STEPS,
    memory: Mapping[str, Any] | None = None,
    progress: Any = None,
    seed: int = 0,
) -> Context:
    def nothing(*_: Any) -> Any:
        raise AssertionError("no part here asks for gradients")

    dice = torch.Generator().manual_seed(seed)
    where = progress or (lambda: Progress(0, steps))
    found = Context({}, data or {}, memory or {}, dice, where, lambda part: part.begin(found), nothing, nothing)
    return found


def model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double())


def run(
    plan: Plan, data: Mapping[str, Rows] | None = None, training: Training = SETTINGS, **kw: Any
) -> tuple[dict[str, Tensor], Fitted]:
    """The weights after the run, and what it leaves."""
    student = model()
    fitted = fit(student, plan, data or {"new": table(30)}, training, **kw)
    return {n: t.clone() for n, t in student.state().items()}, fitted


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def resumed(
    plan: Plan, folder: Path, at: int, data: Mapping[str, Rows] | None = None, **kw: Any
) -> tuple[dict[str, Tensor], Fitted]:
    """As `run`, but killed at step `at`, with a checkpoint after each step before, and then gone on with."""

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at:
            raise Stop

    with pytest.raises(Stop):
        run(plan, data, folder=folder, checkpoint_seconds=0.0, on_record=stop, **kw)
    return run(plan, data, folder=folder, **kw)
