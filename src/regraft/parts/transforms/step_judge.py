"""Rewards of steps by a language model that was taught to say after each whether it is right.

    p_k = P("+") / (P("+") + P("-"))        after the last token of step k

An answer's `reward` is made of p by `by`: the least or the product of its steps (a process reward model), or what is
said after the last one (an outcome reward model). A step ends with a token that holds one of `ends`. p is in column
`process`, at the last token of each step. What the judge learns from is made by `numerics.steps.judged`.

Paper:   "Easy-to-Hard Generalization: Scalable Alignment Beyond Human Supervision" Sun et al. 2024.
         https://arxiv.org/abs/2403.09472
Needs:   rows as rollouts have them; a model in the role `judge`, of the same tokens.
Differs: the judge says one of two tokens, as Math-Shepherd's; the paper's has a linear head.
Tags:    reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.other_models import in_role
from regraft.numerics.steps import By, at_ends, check_by, ends_in, on_places, right_of, steps_of, worth


@dataclass(frozen=True)
class step_judge:
    ends: tuple[str, ...] = ("\n",)
    by: By = "min"
    judge: str = "judge"

    def __post_init__(self) -> None:
        check_by(self.by, "step_judge")

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        judge: Any = in_role(self.judge, ctx, "step_judge")
        steps = steps_of(rows, ends_in(judge, self.ends))
        p = at_ends(right_of(judge, rows), steps)
        return rows.having(process=on_places(p, steps), reward=worth(p, steps, self.by))
