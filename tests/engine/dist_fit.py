"""Run under torchrun by test_processes.py: fits the cases named, and the first process writes what came out.

python dist_fit.py OUT CASE... [--parallel ddp|fsdp] [--resume FOLDER]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Slot, Stateful, View, Weights
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.distributed import joined
from regraft.engine.fit import fit
from regraft.engine.processes import Processes
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.distil import distil as answers
from regraft.parts.losses.nll import nll
from regraft.parts.losses.value import value
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.infinite import infinite
from regraft.parts.trainables.value_head import value_head


class Net(nn.Module):
    """Blocks in a list, an input and an output that share one tensor, and a buffer."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.read = nn.Linear(5, 7)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Dropout(dropout)) for _ in range(2))
        self.norm = nn.LayerNorm(7)
        self.write = nn.Linear(7, 5, bias=False)
        self.write.weight = nn.Parameter(self.read.weight.detach().T.contiguous())
        self.read_again = nn.Linear(7, 5, bias=False)
        self.read_again.weight = self.write.weight
        self.register_buffer("scale", torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        for layer in self.layers:
            x = x + layer(x)
        x = self.norm(x) * self.scale
        return self.write(x) + 0.5 * self.read_again(x.tanh())


def model(dropout: float = 0.0) -> Classifier:
    torch.manual_seed(3)
    return Classifier(Net(dropout).double(), head="write")


def rows(count: int, seed: int, *, weighted: bool = False, extra: bool = False) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=dice, dtype=torch.float64)
    table = Rows({"x": x, "y": torch.randint(0, 5, (count,), generator=dice), "row": torch.arange(count)})
    if weighted:
        table = table.having(weight=torch.rand(count, generator=dice, dtype=torch.float64))
    table = table.having(returns=x[:, 0] + 1)
    return table.having(note=torch.zeros(count)) if extra else table


@dataclass(frozen=True)
class hardest:
    """A sampler that observes: it draws the rows whose last known loss is highest."""

    source: str

    def begin(self, ctx: Context) -> _Hardest:
        return _Hardest(ctx.rows(self.source), self.source)


class _Hardest(Stateful):
    state = ("known",)
    wants = ("losses",)

    def __init__(self, source: Rows, feed: str) -> None:
        self.source, self.feed = source, feed
        self.known = torch.full((source.count,), 10.0, dtype=torch.float64)

    def draw(self, count: int) -> Rows:
        return self.source.take(self.known.argsort(descending=True, stable=True)[:count])

    def observe(self, outcome: Outcome) -> None:
        if outcome.feed == self.feed:
            assert len(outcome.losses["nll"]) == outcome.rows.count
            self.known[outcome.rows["row"]] = outcome.losses["nll"]


@dataclass(frozen=True)
class near_start:
    """A penalty: half the squared distance from the weights it began with."""

    def begin(self, ctx: Context) -> _NearStart:
        return _NearStart({n: t.detach().clone() for n, t in ctx.models["student"].weights().items()})


class _NearStart:
    def __init__(self, start: Weights) -> None:
        self.start = start

    def penalty(self, weights: Weights) -> Tensor:
        return sum(((weights[n] - t) ** 2).sum() for n, t in self.start.items()) / 2  # type: ignore[return-value]


@dataclass(frozen=True)
class distil:
    """A loss that reads the model before the update."""

    def begin(self, ctx: Context) -> distil:
        ctx.models["before"]
        return self

    def loss(self, view: View) -> Tensor:
        return (view.logits - view.by("before").logits).square().mean(1)

    def weight(self, view: View) -> Tensor | None:
        return None


@dataclass(frozen=True)
class freeze:
    """Freezes some tensors, and all but one row of another."""

    def begin(self, ctx: Context) -> freeze:
        return self

    def install(self, model: object) -> None: ...

    def fold(self, model: object) -> None: ...

    def multiplier(self, slot: Slot) -> float | Tensor:
        if slot.name == "layers.1.0.weight":
            return torch.eye(7, dtype=torch.float64)[:1].T.expand(7, 7)
        return {"layers.0.0.weight": 0.0, "norm.bias": 0.0, "read.bias": 0.5}.get(slot.name, 1.0)


@dataclass(frozen=True)
class against_old:
    """A gradient transform that asks for gradients: of old rows, before the first step and in each, and `again`."""

    def begin(self, ctx: Context) -> _AgainstOld:
        return _AgainstOld(ctx, ctx.gradient(ctx.rows("old"), nll()))


class _AgainstOld:
    def __init__(self, ctx: Context, first: Mapping[str, Tensor]) -> None:
        self.ctx, self.first = ctx, first

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        old = self.ctx.gradient(self.ctx.rows("old").take(slice(0, 7)), nll())
        again = self.ctx.again()
        return {n: 0.5 * (g + again[n]) - 0.1 * old[n] + 0.01 * self.first[n] for n, g in grads.items()}


@dataclass(frozen=True)
class average:
    """Lands between the old weights and the new."""

    def begin(self, ctx: Context) -> average:
        return self

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        return grads

    def lands(self) -> bool:
        return True

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        return torch.lerp(before, after, 0.9)


@dataclass(frozen=True)
class stop_at:
    """Raises in the step; an error that every process meets."""

    step: int

    def begin(self, ctx: Context) -> _StopAt:
        return _StopAt(self.step, ctx)


class _StopAt:
    def __init__(self, step: int, ctx: Context) -> None:
        self.step, self.ctx = step, ctx

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.ctx.progress().step == self.step:
            raise RegraftError(f"stopped at {self.step}")
        return grads


@dataclass(frozen=True)
class fail_in_one:
    """Raises in the second process only."""

    def begin(self, ctx: Context) -> fail_in_one:
        return self

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        if os.environ.get("RANK") == "1":
            raise RegraftError("the second process failed")
        return grads


SETTINGS: dict[str, Any] = {"steps": 8, "batch": 8, "lr": 0.05, "log_every": 3}
PLAIN = Plan(feeds=(Feed("new", shuffled("new")),), losses=(Weighted(nll()),))
REPLAY = PLAIN + Plan(feeds=(Feed("old", shuffled("old"), share=0.25),))
CASES: dict[str, tuple[Plan, dict[str, Any]]] = {
    "plain": (PLAIN, {}),
    "micro": (PLAIN, {"micro_batch": 3}),
    "replay": (REPLAY + Plan(lr=infinite(anneal=0.5)), {"micro_batch": 2, "clip": 0.1}),
    "odd": (REPLAY, {"batch": 7, "micro_batch": 2}),
    "tiny": (PLAIN, {"batch": 1}),
    "on": (
        Plan(
            feeds=REPLAY.feeds,
            losses=(Weighted(nll(), on=("new",)), Weighted(distil(), 0.5, on=("old",))),
        ),
        {"micro_batch": 1},
    ),
    "schemas": (Plan(feeds=REPLAY.feeds, losses=(Weighted(nll(), on=("new",)), Weighted(distil(), 0.5))), {}),
    "observes": (Plan(feeds=(Feed("new", hardest("new")), *REPLAY.feeds[1:]), losses=PLAIN.losses), {"batch": 9}),
    "remembers": (
        Plan(
            feeds=(*PLAIN.feeds, Feed("memory", reservoir(5, keep=("logits",)), 0.5)),
            losses=(Weighted(nll()), Weighted(answers(of="logits", by="mse"), 0.5, ("memory",))),
        ),
        {"micro_batch": 3},
    ),
    "penalty": (PLAIN + Plan(penalties=(Weighted(near_start(), 0.3),)), {}),
    "frozen": (PLAIN + Plan(trainables=(freeze(),)), {"knobs": {"weight_decay": 0.1}}),
    "gradients": (REPLAY + Plan(gradients=(against_old(), average())), {"micro_batch": 3}),
    "beside": (REPLAY + Plan(losses=(Weighted(value(clip=None)),), trainables=(value_head(),)), {"micro_batch": 3}),
    "sgd": (PLAIN, {"optimizer": "SGD", "knobs": {"momentum": 0.9}}),
    "half": (PLAIN, {"precision": "bfloat16", "micro_batch": 2, "lr": 0.01}),
    "fails": (PLAIN + Plan(gradients=(fail_in_one(),)), {}),
    "dropout": (REPLAY + Plan(lr=infinite(anneal=0.5)), {"clip": 0.1}),
}


def data(case: str) -> dict[str, Rows]:
    weighted = case in ("odd", "replay")
    return {"new": rows(50, 0, weighted=weighted), "old": rows(30, 1, weighted=weighted, extra=case == "schemas")}


def run(case: str, processes: Processes, folder: Path | None = None, stop: int | None = None) -> dict[str, Any]:
    """What one case leaves, as a tree; with a folder it goes on from there, and raises at the step `stop`."""
    plan, said = CASES[case]
    if folder is not None:
        plan += Plan(gradients=(stop_at(-1 if stop is None else stop),))
    student = model(0.3 if case == "dropout" else 0.0)
    tables = {**data(case), "held": rows(13, 7), "one": rows(1, 8)}
    if case == "half":
        student.module.float()
        tables = {name: table.having(x=table["x"].float()) for name, table in tables.items()}
    module = student.module
    torch.manual_seed(4)
    fitted = fit(
        student,
        plan,
        tables,
        Training(**{**SETTINGS, **said}),
        monitors={name: tables[name] for name in ("held", "one")},
        monitor_every=4,
        folder=folder,
        checkpoint_seconds=0.0,
        processes=processes,
    )
    assert student.module is module
    assert student.runner is module
    return {
        "weights": dict(student.state()),
        "curve": fitted.curve,
        "seen": fitted.seen,
        "trunk": fitted.trunk,
        "tokens": fitted.tokens,
    }


def leave_at(step: int, case: str, processes: Processes, folder: Path) -> None:
    """A run that was stopped before it had done `step` + 1 steps, and its checkpoints."""
    with suppress(RegraftError):
        run(case, processes, folder, step)
    processes.agree()


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("out", type=Path)
    said.add_argument("cases", nargs="+")
    said.add_argument("--parallel", default="ddp")
    said.add_argument("--resume", type=Path, help="goes on with the run of `replay` that is left in this folder")
    args = said.parse_args()
    with joined(args.parallel) as processes:

        def keep(name: str, found: dict[str, Any]) -> None:
            # The curve, the rows seen and the weights are the same in every process.
            each = processes.collect({k: found[k] for k in ("weights", "curve", "seen", "tokens")})
            if processes.rank == 0:
                found["alike"] = all(checkpoint.to_bytes(tree) == checkpoint.to_bytes(each[0]) for tree in each)
                (args.out / name).write_bytes(checkpoint.to_bytes(found))

        for case in args.cases:
            keep(case, run(case, processes))
        if args.resume:
            leave_at(5, "dropout", processes, args.out / "dropout-left")
            keep("dropout-resumed", run("dropout", processes, args.out / "dropout-left"))
            keep("replay-resumed", run("replay", processes, args.resume))
            leave_at(5, "replay", processes, args.out / "replay-left")
        run("fails", processes)


if __name__ == "__main__":
    main()
