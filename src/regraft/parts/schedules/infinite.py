"""A learning rate with no end: constant while text arrives, annealed on a branch when a model is to be shipped.

    first update    f(t) = t / T_w                            t < T_w = warmup · T
                    f(t) = c + (1 - c) / 2 · (1 + cos(π (t - T_w) / (T_cd - T_w)))      t < T_cd = cooldown · T
    later updates   begin at c: no re-warming
    trunk           f(t) = c = constant                       t < t_a = (1 - anneal) · T
    branch          f(t) = c · (floor / c)^((t - t_a) / (T - t_a))

The weights and the optimizer at t_a, before annealing, are the trunk: the next update goes on from there at c. What the
branch reaches at T is the version that is released.

Paper:   "Simple and Scalable Strategies to Continually Pre-train Large Language Models" Ibrahim et al. 2024.
         https://arxiv.org/abs/2403.08763
Paper:   "Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for Continual Pre-training" Singh
         et al. 2025. https://arxiv.org/abs/2503.02844
Claim:   over a stream of updates it ends at a lower mean loss than re-warming each time, with a smaller rise of the old
         loss.
Needs:   nothing; `infinite` in memory makes this a later update.
Leaves:  `infinite`: that the trunk stands at the constant rate.
Differs: the paper gives the phases in tokens of one long run; here they are shares of each update, so that every update
         ships.
Tags:    learning rate, task-free
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regraft.core.parts import Context, Progress


@dataclass(frozen=True)
class infinite:
    warmup: float = 0.01
    cooldown: float = 0.6
    constant: float = 0.55
    anneal: float = 0.15
    floor: float = 0.1

    def begin(self, ctx: Context) -> _Infinite:
        return _Infinite(self, later="infinite" in ctx.memory)


@dataclass
class _Infinite:
    knobs: infinite
    later: bool

    def master_step(self, total: int) -> int:
        return round((1 - self.knobs.anneal) * total)

    def __call__(self, t: Progress) -> float:
        k, c = self.knobs, self.knobs.constant
        T_w, T_cd, t_a = k.warmup * t.total, k.cooldown * t.total, self.master_step(t.total)
        if t.step >= t_a:
            return c * math.pow(k.floor / c, (t.step - t_a + 1) / (t.total - t_a))
        if self.later or t.step >= T_cd:
            return c
        if t.step < T_w:
            return min(1.0, (t.step + 1) / T_w)
        return c + (1 - c) / 2 * (1 + math.cos(math.pi * (t.step - T_w) / (T_cd - T_w)))

    def leave(self) -> Mapping[str, Any]:
        return {"infinite": self.knobs.constant}
