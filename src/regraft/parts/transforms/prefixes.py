"""Prefix sampling: some answers of each group begin with the first part of a demonstration, and that is learned, too.

    y = y*_{1..L} y_{L+1..},    L = floor(l |y*|),    l ~ U(low_t, high_t)
    c_i = 1 for the part `top` of all tokens y*_i at which the policy's entropy is highest, else 0

As the `start` of `rollouts`: the last `rows` of each group begin so, and the rest of them is the policy's own. Such an
answer is judged as a whole, so a prefix that leads to success is reinforced, one that does not is not, and how much
depends on how the other answers of the group do. Entropies are compared over all prefixes of a step, as the policy is
when it writes. At least the last token of a demonstration is never given; a question without one has plain answers.

Paper:   "Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling" Huang et al. 2025.
         https://arxiv.org/abs/2507.01679
Needs:   the rows named by `source`: demonstrations as blocks, with a column `item`, the `row` of the question that
         each answers.
Differs: the authors' code also gives every prefix a least number of tokens, which it does not say.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Stateful
from regraft.core.plan import Knob
from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks
from regraft.numerics.demonstrations import Demonstrations
from regraft.numerics.knobs import begun, worth
from regraft.numerics.padded import Padded
from regraft.numerics.token_loss import entropies_of


@dataclass(frozen=True)
class prefixes:
    low: Knob = 0.05
    high: Knob = 0.95
    rows: int = 1
    top: float = 0.2
    source: str = "shown"

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise RegraftError(f"prefixes: rows is {self.rows}; it must be 0 or more")
        if not 0 <= self.top <= 1:
            raise RegraftError(f"prefixes: top is {self.top}; it must be from 0 to 1")

    def begin(self, ctx: Context) -> _Prefixes:
        return _Prefixes(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _Prefixes(Stateful):
    state = ("shown", "dice")

    def __init__(self, part: prefixes, ctx: Context) -> None:
        self.part, self.dice = part, ctx.rng
        self.model: Any = ctx.models["student"]
        self.low, self.high = begun(part.low, ctx.begin), begun(part.high, ctx.begin)
        self.shown = Demonstrations(ctx.rows(part.source), ctx.rng)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        last = rows["copy"] > rows["copy"].max() - self.part.rows
        at = last.nonzero()[:, 0].tolist()
        answers = self.shown.one_each(rows["row"][last])
        prefix: list[list[int]] = [[] for _ in range(rows.count)]
        for row, answer, share in zip(at, answers, self._lengths(len(at), ctx), strict=True):
            prefix[row] = list(answer[: min(int(share * len(answer)), len(answer) - 1)])
        if not any(prefix):
            return rows
        counts = iter(self._counts(rows, prefix))
        return rows.having(prefix_ids=prefix, prefix_counts=[list(itertools.islice(counts, len(p))) for p in prefix])

    def _lengths(self, count: int, ctx: Context) -> list[float]:
        """Which part of its demonstration each prefix is."""
        low, high = sorted(min(worth(knob, ctx.progress()), 1.0) for knob in (self.low, self.high))
        drawn: Tensor = low + (high - low) * torch.rand(count, generator=self.dice, dtype=torch.float64)
        return drawn.tolist()

    def _counts(self, rows: Rows, prefix: list[list[int]]) -> list[float]:
        """How much each token of the prefixes counts, one prefix after the other."""
        begins = [row for row, ids in enumerate(prefix) if ids]
        prompts = [rows["prompt_ids"][row] for row in begins]
        blocks = answer_blocks(Padded.of(prompts), Padded.of([prefix[row] for row in begins]))
        own = blocks["counts"] > 0
        H = entropies_of(self.model, blocks)[own]
        counts = torch.ones_like(H)
        counts[H.argsort(stable=True)[: int(len(H) * (1 - self.part.top) + 1e-9)]] = 0.0
        return counts.tolist()

    def rows_used(self) -> Mapping[str, Tensor]:
        return {self.part.source: self.shown.used}
