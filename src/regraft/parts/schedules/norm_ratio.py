"""How far the model is from what a feed shows: the norm of the feed's last gradient beside that of its warm-up.

    p_t = 1                                       t < warm
    p_t = ||g_last|| / (||g_last|| + gamma ||g_warm||)      else

g_last: the gradient of the feed's last step, g_warm: that of its last step of the warm-up. It is in (0, 1), 1/2 at
first with gamma = 1, and larger the further the model has moved from what the feed shows. As the `p` of `sometimes`,
over a feed of demonstrations, it says how likely a step imitates (SASR).

The same part is in the plan's `gradients`, where it hears the gradients, of all tensors that move and before clipping.

Paper:   "Step-wise Adaptive Integration of Supervised Fine-tuning and Reinforcement Learning for Task-Specific LLMs"
         Chen et al. 2025. https://arxiv.org/abs/2505.13026
Needs:   a feed named `feed` that has steps of its own (`solo`).
Tags:    reinforcement learning, demonstrations, curriculum
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Outcome, Progress, Stateful


@dataclass(frozen=True)
class norm_ratio:
    feed: str = "shown"
    warm: int = 20
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.warm < 1 or not self.gamma > 0:
            raise RegraftError(f"{self}: warm must be 1 or more, gamma over 0")

    def begin(self, ctx: Context) -> _NormRatio:
        return _NormRatio(self)


class _NormRatio(Stateful):
    state = ("last", "at_warm")

    def __init__(self, part: norm_ratio) -> None:
        self.part = part
        self.norm: Tensor | None = None
        self.last = self.at_warm = 0.0

    def __call__(self, t: Progress) -> float:
        if t.step < self.part.warm:
            return 1.0
        both = self.last + self.part.gamma * self.at_warm
        return self.last / both if both > 0 else 0.0

    def update(self, grads: Grads) -> Grads:
        norms = [torch.linalg.vector_norm(g.float()) for g in grads.values()]
        self.norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else None
        return grads

    def observe(self, outcome: Outcome) -> None:
        if outcome.feed != self.part.feed:
            return
        if self.norm is None:
            raise RegraftError(f"{self.part} heard no gradient", do="Put it among the plan's gradients, too")
        self.last = float(self.norm)
        if outcome.progress.step < self.part.warm:
            self.at_warm = self.last
