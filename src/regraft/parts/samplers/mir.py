"""Maximally interfered retrieval: of a memory's rows, those that the coming step would harm most.

    w' = w - alpha · gradient of `loss` on the rows of feed `source`
    score_r = l_r(w') - l_r(w)        the batch: the rows of highest score among those drawn from the memory

`candidates` times as many rows are drawn as are asked for. To first order the order of scores does not depend on alpha.
Scores are found in evaluation mode. A memory that holds no more rows than are asked for is drawn whole.

Paper:   "Online Continual Learning with Maximally Interfered Retrieval" Aljundi et al. 2019.
         https://arxiv.org/abs/1908.04742
Claim:   when every row comes once, it forgets less than rows drawn at random from the same memory, at equal updates.
Needs:   `memory`, a sampler of old rows such as `reservoir`, and a feed beside the batch. A step costs one gradient and
         two forward passes over the candidates more.
Differs: rows of the task at hand may be drawn, too, since nothing says which those are; the step lowers their loss, so
         they hardly ever are. The authors' alpha is the learning rate.
Tags:    replay, task-free, online
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, LossRun, Sampler, SamplerRun, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating


@dataclass(frozen=True)
class mir:
    memory: Sampler
    loss: Loss
    candidates: float = 5.0
    alpha: float = 0.1
    source: str = "new"

    def __post_init__(self) -> None:
        if not 1 < self.candidates < float("inf"):
            raise RegraftError(f"mir: candidates is {self.candidates:g}; it must be over 1, or there is no choice")
        if not 0 < self.alpha < float("inf"):
            raise RegraftError(f"mir: alpha is {self.alpha}; it must be over 0")

    def begin(self, ctx: Context) -> _MIR:
        return _MIR(self, ctx, ctx.begin(self.memory), ctx.begin(self.loss))


class _MIR:
    def __init__(self, part: mir, ctx: Context, memory: SamplerRun, loss: LossRun) -> None:
        self.part, self.ctx, self.memory, self.loss = part, ctx, memory, loss
        self.new: Rows | None = None

    def follow(self, drawn: Mapping[str, Rows]) -> None:
        if self.part.source not in drawn:
            raise RegraftError(f"mir follows the feed {self.part.source!r}; there are {sorted(drawn)}")
        self.new = drawn[self.part.source]

    def draw(self, count: int) -> Rows:
        if self.new is None:
            raise RegraftError("mir is not told what the other feeds drew", do="Give its feed `beside`, not a share")
        rows = self.memory.draw(math.ceil(count * self.part.candidates))
        if rows.count <= count or not self.new.count:
            return rows.take(slice(0, count))
        gradient = self.ctx.gradient(self.new, self.part.loss)
        return rows.take(self.scores(rows, gradient).topk(count).indices.cpu())

    @torch.no_grad()
    def scores(self, rows: Rows, gradient: Grads) -> Tensor:
        """How much the loss of each row would rise, [rows]."""
        student = self.ctx.models["student"]
        moved = {slot.name: slot.tensor for slot in student.slots() if slot.name in gradient}
        before = {name: tensor.clone() for name, tensor in moved.items()}
        rows = rows.to(student.device)
        with evaluating(student):
            now = self.loss.loss(View(student, rows, self.ctx.models))
            try:
                for name, tensor in moved.items():
                    tensor.sub_(gradient[name], alpha=self.part.alpha)
                return self.loss.loss(View(student, rows, self.ctx.models)) - now
            finally:
                for name, tensor in moved.items():
                    tensor.copy_(before[name])
