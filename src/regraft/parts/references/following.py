"""A reference that follows the model: a copy of it that is moved towards it now and then.

    w_ref <- m w_ref + (1 - m) w        after every `every`-th step, up to step `until`

m over 0 and every = 1: an exponential moving average (T1's anchor, the soft update of TR-DPO); m = 0: the model as it
was at most `every` steps ago (TR-DPO's hard update; every = 1: the policy before this step); m = 0 with every = until:
the reference is set once, to what the model then is (ReMix's reincarnation). What moves is every parameter, those of
adapters by themselves. m = 1 is the role `before`.

Paper:   "Advancing Language Model Reasoning through Reinforcement Learning and Inference Scaling" Hou et al. 2025.
         https://arxiv.org/abs/2501.11651
Paper:   "Learn Your Reference Model for Real Good Alignment" Gorbatovski et al. 2024. https://arxiv.org/abs/2404.09656
Paper:   "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
         Liang et al. 2025. https://arxiv.org/abs/2507.06892
Tags:    reinforcement learning, preference optimisation, weight averaging
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Outcome, Stateful


@dataclass(frozen=True)
class following:
    m: float = 0.99
    every: int = 1
    until: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.m <= 1:
            raise RegraftError(f"following: m is {self.m}; it must be from 0 to 1")
        if self.every < 1 or (self.until is not None and self.until < 0):
            raise RegraftError(f"{self}: every must be 1 or more, until 0 or more")

    def begin(self, ctx: Context) -> _Following:
        return _Following(self, ctx)


class _Following(Stateful):
    state = ("moved", "weights")

    def __init__(self, part: following, ctx: Context) -> None:
        self.part, self.progress, self.student = part, ctx.progress, ctx.models["student"]
        self.model: Model = self.student.copy()
        self.moved = 0
        """The step before which it was last looked at."""

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.model.module.named_parameters()}

    @weights.setter
    @torch.no_grad()
    def weights(self, saved: Mapping[str, Tensor]) -> None:
        for name, p in self.model.module.named_parameters():
            p.copy_(saved[name])

    @torch.no_grad()
    def observe(self, outcome: Outcome) -> None:
        step, part = self.progress().step + 1, self.part
        if step == self.moved:  # every feed of a step is told
            return
        self.moved = step
        if step % part.every or (part.until is not None and step > part.until):
            return
        slow, now = ([p.detach() for p in m.module.parameters()] for m in (self.model, self.student))
        torch._foreach_lerp_(slow, now, 1 - part.m)
