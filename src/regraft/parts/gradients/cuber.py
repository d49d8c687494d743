"""CUBER: steps may change what a layer answers to earlier tasks where the task at hand pulls it the same way.

    g: the gradient of the new task where it begins, g_j: that of task j where it ended,
    S_j: the basis of what the layer reads of j; layer by layer and task by task,

    regime 1    ||g S_j S_jᵀ|| < eps1 ||g||                     the new task hardly reads what j reads
    regime 2    else, and  g·g_j < eps2 ||g|| ||g_j||           it does, and pulls another way
    regime 3    else                                            it does, and pulls the same way

    W <- W + d - d U Uᵀ                                         U: the span of S_j over the tasks in regimes 1 and 2
    loss + lambda sum_{j in regime 3} ||(W - W*) S_j S_jᵀ||     W*: the weights at its beginning

So related tasks can improve after they were learned. What is no weight of a linear or convolutional layer stays as the
first update left it, except the bias of a layer where all earlier tasks are in regime 3; where rows say of which task
they are, the head is free. With an energy of 0 no S_j has a direction, and all is free.

Paper:   "Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer" Lin et al. 2022.
         https://arxiv.org/abs/2211.00789
Claim:   on related tasks it changes what earlier ones reach for the better, more so than GPM, and is more accurate; on
         unrelated ones it forgets less than plain training.
Needs:   the rows named by `source`, of which some are read at the beginning and the end. No running statistics (batch
         normalisation).
Leaves:  `cuber`: S_j and g_j of every task, by weight, and the regimes that each update found, by weight and task.
Differs: regime 2 projects as regime 1 does. The authors also let the new task rescale W S_j by a matrix of its own, for
         which a test must say its task. The step is projected, not the gradient.
Tags:    gradient projection, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, Stateful
from regraft.core.rows import Rows
from regraft.numerics.choice import some
from regraft.numerics.subspace import basis, inputs, joined, of_one_task, steady, within


@dataclass(frozen=True)
class cuber:
    loss: Loss
    energy: float = 0.97
    eps1: float = 0.5
    eps2: float = 0.0
    hold: float = 0.5
    rows: int = 300
    source: str = "new"

    def __post_init__(self) -> None:
        if bad := next((k for k in ("energy", "eps1") if not 0 <= getattr(self, k) <= 1), None):
            raise RegraftError(f"cuber: {bad} is {getattr(self, bad)}; it must be in [0, 1]")
        if not -1 <= self.eps2 <= 1:
            raise RegraftError(f"cuber: eps2 is {self.eps2}; it must be in [-1, 1]")
        if not 0 <= self.hold < float("inf"):
            raise RegraftError(f"cuber: hold is {self.hold}; it must be 0 or more")
        if self.rows < 1:
            raise RegraftError(f"cuber: rows is {self.rows}; it must be at least 1")

    def begin(self, ctx: Context) -> _CUBER:
        steady(ctx.models["student"], "cuber")
        ctx.begin(self.loss)
        return _CUBER(self, ctx)


class _CUBER(Stateful):
    state = ("regimes", "start", "dice")

    def __init__(self, part: cuber, ctx: Context) -> None:
        self.part, self.ctx, self.student, self.dice = part, ctx, ctx.models["student"], ctx.rng
        left = ctx.memory.get("cuber", {"tasks": {}, "regimes": {}})
        self.tasks: Mapping[str, Mapping[str, Mapping[str, Tensor]]] = left["tasks"]
        self.past: Mapping[str, Any] = left["regimes"]
        self.free = of_one_task(ctx, part.source)
        self.holds = any(S.shape[1] for task in self.tasks.values() for S in task["basis"].values())
        self.regimes: dict[str, dict[str, int]] = {}
        self.start: dict[str, Tensor] = {}
        self.off: dict[str, Tensor] | None = None
        self.related: dict[str, list[Tensor]] = {}  # the bases of the tasks in regime 3

    def update(self, grads: Grads) -> Grads:
        if not self.holds:
            return grads
        if not self.regimes:
            g = self.ctx.gradient(self._rows(), self.part.loss)
            self.regimes = {name: self._regimes(name, g[name]) for name in self._layers() if name in g}
            self.start = {s.name: s.tensor.detach().clone() for s in self.student.slots() if s.name in self.regimes}
        if self.off is None:
            self.off = {}
            for name, found in self.regimes.items():
                S, like = {j: self._S(j, name) for j in found}, self.start[name]
                if still := {j: S[j] for j, regime in found.items() if regime != 3}:
                    self.off[name] = joined(still).to(like)
                self.related[name] = [S[j].to(like) for j, regime in found.items() if regime == 3 and self.part.hold]
        W = {slot.name: slot.tensor.detach() for slot in self.student.slots()}
        return {name: g + self._pull(name, W[name]) if name in self.regimes else g for name, g in grads.items()}

    def _regimes(self, name: str, g: Tensor) -> dict[str, int]:
        """The regime of one layer for each earlier task."""
        found = {}
        for j in self.tasks:
            own = self.tasks[j]["gradient"].get(name)
            if within(g, self._S(j, name)).norm() < self.part.eps1 * g.norm():
                found[j] = 1
            elif own is None:  # the layer was held still then
                found[j] = 2
            else:
                own = own.to(g)
                found[j] = 3 if (g * own).sum() >= self.part.eps2 * g.norm() * own.norm() else 2
        return found

    def _pull(self, name: str, W: Tensor) -> Tensor:
        """The gradient of what holds the layer where it began, in the subspaces in which it may move."""
        total = torch.zeros_like(W)
        for S in self.related[name]:
            moved = within(W - self.start[name], S)
            total += self.part.hold * moved / moved.norm().clamp(min=torch.finfo(W.dtype).tiny)
        return total

    def lands(self) -> bool:
        return self.holds

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        assert self.off is not None, "it was asked for the gradient first"
        weight = name.removesuffix("bias") + "weight" if name.endswith("bias") else name
        if name in self.free or (weight in self.regimes and weight not in self.off):
            return after
        return after - within(after - before, self.off[name]) if name in self.off else before

    def leave(self) -> Mapping[str, Any]:
        rows = self._rows()
        g = self.ctx.gradient(rows, self.part.loss)
        S = {name: basis(R, self.part.energy) for name, R in inputs(self.student, rows).items()}
        kept = {"basis": S, "gradient": {name: g[name] for name in S if name in g}}
        now = str(len(self.tasks))
        task = {what: {name: tensor.cpu() for name, tensor in each.items()} for what, each in kept.items()}
        return {"cuber": {"tasks": {**self.tasks, now: task}, "regimes": {**self.past, now: self.regimes}}}

    def _layers(self) -> list[str]:
        return [name for name in self.tasks["0"]["basis"] if name not in self.free]

    def _S(self, task: str, name: str) -> Tensor:
        return self.tasks[task]["basis"][name].to(self.student.device)

    def _rows(self) -> Rows:
        return some(self.ctx.rows(self.part.source), self.part.rows, self.dice)
