"""A reward for searching, apart from that for being right, and never worth more than it.

    R_r = alpha V_r + (1 - alpha) w(t) R_ex,r       R_ex = most min(n, cap) / cap

V: the outcome, the column `reward` that was there before, of 0 to 1. n: how many intermediate steps an answer has, each
of which ends with a token that holds one of `ends`; one that is word by word like an earlier one does not count, unless
`again`. w: `weight`, which may be a schedule: one that falls makes the bonus fade out. After what judges in the
transforms of `rollouts`, before advantages.

`guard`: a right answer must outweigh all that searching is worth, alpha > (1 - alpha) w most, at every step, or it is
an error. `guard=False` leaves it to the user; then long wrong answers may earn more than right ones.

The columns `reward/outcome` and `reward/exploration` are V and R_ex.

Paper:   "On the Emergence of Thinking in LLMs I: Searching for the Right Intuition" Ye et al. 2025.
         https://arxiv.org/abs/2502.06773
Claim:   after a warm-up on short traces, a capped bonus answers at least 3 points more of harder questions than
         outcomes alone, and tries more; with an alpha that is too small, answers get longer and fewer are right.
Needs:   columns `reward`, `targets` and `counts`, and a model with a tokenizer as the student.
Differs: alpha is not the paper's, which we do not know. Steps are counted, as in the paper's simplest form, but those
         that are alike once: a model soon learns to write the end of a step and nothing else. The paper also has a
         model judge how an answer searches; `thinking_reward` takes such a judge.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.advantages import finite_rewards
from regraft.numerics.knobs import begun, worth
from regraft.numerics.steps import ends_in, steps_of


@dataclass(frozen=True)
class exploration_reward:
    ends: tuple[str, ...] = ("\n",)
    alpha: float = 0.8
    cap: int = 8
    most: float = 1.0
    weight: Knob = 1.0
    again: bool = False
    guard: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise RegraftError(f"exploration_reward: alpha is {self.alpha}; it must be over 0, and 1 at most")
        if self.cap < 1:
            raise RegraftError(f"exploration_reward: cap is {self.cap}; it must be 1 or more")
        if not 0 <= self.most < math.inf:
            raise RegraftError(f"exploration_reward: most is {self.most}; it must be 0 or more")
        if isinstance(self.weight, float | int):
            if not 0 <= self.weight < math.inf:
                raise RegraftError(f"exploration_reward: weight is {self.weight}; it must be 0 or more")
            self.checked(self.weight)

    def checked(self, w: float) -> float:
        """What R_ex counts, or an error where it could outweigh a right answer."""
        bonus = (1 - self.alpha) * w
        if self.guard and not self.alpha > bonus * self.most:
            raise RegraftError(
                f"exploration_reward: searching could earn {bonus * self.most:g}, being right only {self.alpha:g}",
                do="Take a larger alpha, or guard=False",
            )
        return bonus

    def begin(self, ctx: Context) -> _ExplorationReward:
        return _ExplorationReward(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _ExplorationReward:
    def __init__(self, part: exploration_reward, ctx: Context) -> None:
        self.part, self.weight, self.progress = part, begun(part.weight, ctx.begin), ctx.progress
        self.ends = ends_in(ctx.models["student"], part.ends)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        part, V = self.part, finite_rewards(rows["reward"])
        bonus = part.checked(worth(self.weight, self.progress()))
        n = self._ended(rows) if part.again else self._different(rows)
        R_ex = part.most * n.clamp(max=part.cap).double() / part.cap
        R = part.alpha * V + bonus * R_ex
        columns = {"reward/outcome": rows["reward"], "reward/exploration": R_ex.float()}
        return rows.having(**columns, reward=R.to(torch.float32))

    def _ended(self, rows: Rows) -> Tensor:
        """How many tokens of each answer end a step, int64 [rows]."""
        found: Tensor = (self.ends[rows["targets"]] & (rows["counts"] > 0)).sum(1)
        return found

    def _different(self, rows: Rows) -> Tensor:
        """How many steps of each answer are ended, of those that are alike one, int64 [rows]."""
        of = steps_of(rows, self.ends).of
        row, at = ((of >= 0) & (of < self._ended(rows)[:, None])).nonzero().unbind(1)
        if not len(row):
            return of.new_zeros(rows.count)
        _, step, sizes = torch.stack([row, of[row, at]], 1).unique_consecutive(
            dim=0, return_inverse=True, return_counts=True
        )
        place = torch.arange(len(row)) - (sizes.cumsum(0) - sizes)[step]
        said = of.new_full((len(sizes), 1 + int(sizes.max())), -1)
        said[step, 0] = row
        said[step, 1 + place] = rows["targets"][row, at]
        found: Tensor = said.unique(dim=0)[:, 0].bincount(minlength=rows.count)
        return found
