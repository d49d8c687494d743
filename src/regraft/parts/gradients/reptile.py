"""Gradient alignment by Reptile: every k steps, go back most of the way to where the weights stood k steps ago.

    theta <- anchor + eps · (theta - anchor)        after steps k, 2k, 3k, ...;  anchor: theta after the last such step

To first order this turns the gradients of successive batches the same way: with replayed rows among them, transfer
between old and new instead of interference (meta-experience replay). It costs one copy of the weights. The optimizer's
state is kept, and so is the learning rate: it helps at a constant rate, and did not under one that decays. Steps after
the last multiple of k stay as they are: choose a k that divides the steps.

Paper:   "Revisiting Replay and Gradient Alignment for Continual Pre-Training of Large Language Models"
         Abbes et al. 2025. https://arxiv.org/abs/2508.01908
Claim:   with 25% replay, forgets no more than replay alone, and learns the new text to within 3% of its loss.
Needs:   a replay feed in the plan, for the alignment to be between old and new.
Differs: only the tensors that move are interpolated; the authors' code, chandar-lab/continual-pretraining, does so to
         buffers too.
Tags:    continual pre-training, meta-learning, task-free
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Stateful


@dataclass(frozen=True)
class reptile:
    k: int = 500
    eps: float = 0.1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise RegraftError(f"reptile: k is {self.k}; it must be at least 1")
        if not 0 <= self.eps <= 1:
            raise RegraftError(f"reptile: eps is {self.eps}; it must lie in [0, 1]")

    def begin(self, ctx: Context) -> _Reptile:
        if self.eps != 1 and self.k > (steps := ctx.progress().total):
            raise RegraftError(
                f"reptile would never act: k is {self.k}, the update has {steps} steps", do=f"Set k to {steps} or less"
            )
        return _Reptile(self)


class _Reptile(Stateful):
    state = ("step", "anchor")

    def __init__(self, knobs: reptile) -> None:
        self.k, self.eps, self.step = knobs.k, knobs.eps, 0
        self.anchor: dict[str, Tensor] = {}

    def update(self, grads: Grads) -> Grads:
        self.step += 1
        return grads

    def lands(self) -> bool:
        return (self.step - 1) % self.k == 0 or self.step % self.k == 0

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        # Taken where a cycle begins, not where the last one ended: transforms after this one move the weights too.
        if (self.step - 1) % self.k == 0:
            self.anchor[name] = before
        if self.step % self.k:
            return after
        # lerp returns `after` itself, bit for bit, at eps = 1.
        return torch.lerp(self.anchor[name].to(after), after, self.eps)
