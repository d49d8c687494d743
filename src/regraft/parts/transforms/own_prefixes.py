"""Groups that begin with the first blocks of an answer that the model itself has just written.

    y ~ pi(. | x),    z_0 .. z_k its blocks of thinking,    j ~ U{0 .. k}:    every answer to x begins with z_0 .. z_j-1

As the `start` of `rollouts`: the answers of a group go on from one and the same place, so that what they earn tells
which way on is better. What they begin with is not learned. A block ends with a token that holds one of `ends`, before
`force`, which ends thinking, first comes. `tokens`: of the answer at most.

Paper: "Optimizing Test-Time Compute via Meta Reinforcement Fine-Tuning" Qu et al. 2025.
       https://arxiv.org/abs/2503.07572
Needs: a causal language model with a tokenizer as the student.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write
from regraft.numerics.sampling import Sampling
from regraft.numerics.thoughts import answer_begins, forcing, thought_ends


@dataclass(frozen=True)
class own_prefixes:
    ends: tuple[str, ...] = ("\n",)
    force: str = "</think>"
    tokens: int = 256
    temperature: float = 1.0
    at_once: int = 64

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.at_once < 1:
            raise RegraftError(f"own_prefixes: tokens is {self.tokens}, at_once {self.at_once}; each must be 1 or more")
        Sampling(self.temperature)

    def begin(self, ctx: Context) -> _OwnPrefixes:
        return _OwnPrefixes(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _OwnPrefixes(Stateful):
    state = ("dice",)

    def __init__(self, part: own_prefixes, ctx: Context) -> None:
        self.part, self.dice = part, ctx.rng
        self.model: Any = ctx.models["student"]
        self.force = forcing(self.model, part.force)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        part, first = self.part, rows["copy"] == 0
        prompts = rows.where(first)
        how: dict[str, Any] = {"tokens": part.tokens, "how": Sampling(part.temperature), "rows": part.at_once}
        written = write(self.model, prompts["prompt_ids"], self.dice, **how)
        said = Padded(written.tokens, written.lengths)
        blocks = prompts.having(**answer_blocks(Padded.of(prompts["prompt_ids"]), said))
        over = thought_ends(self.model, blocks, part.ends, self.force)
        k = over.sum(1)
        j = (torch.rand(len(k), generator=self.dice, dtype=torch.float64) * (k + 1)).long()
        upto = (over.cumsum(1) - over.long() < j[:, None]).sum(1)
        sizes = (upto - answer_begins(blocks)).clamp(min=0).tolist()
        begun = [written.ids(row)[:size] for row, size in enumerate(sizes)]
        if not any(sizes):
            return rows
        prefix = [begun[group] for group in (first.cumsum(0) - 1).tolist()]
        return rows.having(prefix_ids=prefix, prefix_counts=[[0.0] * len(ids) for ids in prefix])
