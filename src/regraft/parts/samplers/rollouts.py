"""Rollouts: rows that the model itself writes, as it stands, after prompts that another sampler draws.

    x ~ prompts,    y_1 .. y_G ~ pi(. | x),    then: columns of rewards and advantages

`then` are transforms, run in order, such as `verified` and `group_advantage`: a row has the columns of its item, what
was `written` (text), the number of its `group`, whether it `ended` by itself, its `length` and its `surprise`, minus
its log-probability in nats. A step's rows are whole groups. `ahead`: so many steps' rows are written at once; `epochs`:
so often each is learned from. If either is over 1, rows have `old_log_probs`, around which policy_gradient clips.

`start`: a transform that is given the rows before they are written (with `group` and `copy`, their number in it) and
may give them `prefix_ids`, tokens that an answer begins with and that are learned with it, and `prefix_counts`, how
much each of those counts (1 if not given). `greedy`: each prompt is also answered by what is likeliest; this answer is
judged with the others, as a row with `copy` -1, and not learned.

`refill`: groups in which no answer has an advantage teach nothing; other prompts are written for instead, up to so many
times (DAPO's dynamic sampling). What is still lacking then is filled with such groups.

The tally of each item is left under `name`; two of them in a plan have two names.

Paper: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" Shao et al. 2024.
       https://arxiv.org/abs/2402.03300
Paper: "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" Yu et al. 2025.
       https://arxiv.org/abs/2503.14476
Needs:  a causal language model with a tokenizer; prompts with a column `prompt_ids`, the tokens of each, and `row`.
Leaves: how often each item was written for, its rewards, tokens and surprise, in sums by its `row`; `faults`: how many
        answers could not be judged, by what the checker's column `fault` says.
Tags:   reinforcement learning, language model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Sampler, SamplerRun, Stateful, Transform
from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks, join_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write_after
from regraft.numerics.sampling import Sampling
from regraft.numerics.tally import MOST_FAULTS, Tally, faults
from regraft.numerics.token_loss import log_probs_of
from regraft.numerics.trying import spoken


@dataclass(frozen=True)
class rollouts:
    prompts: Sampler
    then: tuple[Transform, ...]
    copies: int = 8
    tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    ahead: int = 1
    epochs: int = 1
    refill: int = 0
    at_once: int = 64
    start: Transform | None = None
    greedy: bool = False
    name: str = "rollouts"

    def __post_init__(self) -> None:
        for name in ("copies", "tokens", "ahead", "epochs", "at_once"):
            if getattr(self, name) < 1:
                raise RegraftError(f"rollouts: {name} is {getattr(self, name)}; it must be 1 or more")
        if self.refill < 0:
            raise RegraftError(f"rollouts: refill is {self.refill}; it must be 0 or more")
        if self.greedy and self.start is not None:
            raise RegraftError("rollouts: greedy and start do not go together", do="Leave one out")
        Sampling(self.temperature, self.top_k, self.top_p)

    def begin(self, ctx: Context) -> _Rollouts:
        return _Rollouts(self, ctx.begin(self.prompts), ctx)


class _Rollouts(Stateful):
    state = ("tally", "faults", "pool", "waiting", "dice")

    def __init__(self, part: rollouts, prompts: SamplerRun, ctx: Context) -> None:
        self.part, self.prompts, self.ctx, self.dice = part, prompts, ctx, ctx.rng
        self.model: Any = ctx.models["student"]
        self.how = Sampling(part.temperature, part.top_k, part.top_p)
        self.start = None if part.start is None else ctx.at_work(part.start)
        self.then = [ctx.at_work(transform) for transform in part.then]
        self.tally = Tally(0)
        self.faults: dict[str, int] = {}
        self.pool: dict[str, Any] = {}
        self.waiting = torch.empty(0, dtype=torch.long)

    def draw(self, count: int) -> Rows:
        if not len(self.waiting):
            part = self.part
            if (groups := count // part.copies) < 1:
                raise RegraftError(
                    f"rollouts: {count} rows of a step are less than a group of {part.copies}",
                    do="Take a larger batch, or fewer copies",
                )
            rows = self._write(part.ahead * groups)
            order = torch.arange(rows.count)
            if part.ahead * part.epochs > 1:
                order = torch.cat([torch.randperm(rows.count, generator=self.dice) for _ in range(part.epochs)])
            self.pool, self.waiting = dict(rows), order
        drawn, self.waiting = self.waiting[:count], self.waiting[count:]
        return Rows(self.pool).take(drawn)

    def _write(self, groups: int) -> Rows:
        """Rows of so many groups."""
        teaching: list[Rows] = []
        idle: list[Rows] = []
        lacking, begun = groups, 0
        for _ in range(1 + self.part.refill):
            if not (prompts := self.prompts.draw(lacking)).count:
                break
            rows = self._answered(prompts, begun)
            begun += prompts.count
            teaches = _teaches(rows)
            if self.part.refill:
                idle.append(rows.where(~teaches))
                rows = rows.where(teaches)
            teaching.append(rows)
            lacking -= rows.count // self.part.copies
            if not lacking:
                break
        spare = join_blocks(idle).take(slice(0, lacking * self.part.copies))
        return join_blocks([*teaching, spare])

    def _answered(self, prompts: Rows, first: int) -> Rows:
        """Copies of answers to each prompt, groups numbered from `first`."""
        copies = self.part.copies
        items = _numbered(prompts.repeat(copies), copies, first)
        if self.start is not None:
            items = self.start(items, self.ctx)
        rows = self._written(items, self.how)
        if self.part.greedy:
            best = _numbered(prompts, 1, first)
            best = best.having(copy=best["copy"] - 1)
            rows = join_blocks([rows, self._written(best, Sampling(0.0))])
        count = rows.count
        for transform in self.then:
            rows = transform(rows, self.ctx)
        for why, number in faults(rows).items():
            why = why if why in self.faults or len(self.faults) < MOST_FAULTS else "other faults"
            self.faults[why] = self.faults.get(why, 0) + number
        if rows.count != count or "advantage" not in rows:
            raise RegraftError("rollouts: its transforms must keep every row and give a column `advantage`")
        if self.part.greedy:
            rows = rows.where(rows["copy"] >= 0)
        self._count(rows)
        return rows

    def _written(self, items: Rows, how: Sampling) -> Rows:
        """The rows with an answer each, as blocks."""
        part = self.part
        prefixes: list[Sequence[int]] = items["prefix_ids"] if "prefix_ids" in items else [()] * items.count
        knobs: dict[str, Any] = {"tokens": part.tokens, "stop": part.stop, "rows": part.at_once, "how": how}
        written = write_after(self.model, items["prompt_ids"], prefixes, self.dice, **knobs)
        said = spoken(self.model, written)
        log_probs: Tensor | None = written.log_probs
        answers = Padded(written.tokens, written.lengths)
        if "prefix_ids" in items:
            answers = Padded.of([[*prefix, *written.ids(row)] for row, prefix in enumerate(prefixes)])
            said = self.model.tokenizer.batch_decode(
                [answers.ids[r, : answers.lengths[r]].tolist() for r in range(items.count)], skip_special_tokens=True
            )
            log_probs = None
        old = part.ahead * part.epochs > 1
        blocks = answer_blocks(Padded.of(items["prompt_ids"]), answers, log_probs=log_probs if old else None)
        if "prefix_ids" in items:
            if old:
                behind = log_probs_of(self.model, blocks, temperature=part.temperature or 1.0, chunk=part.at_once)
                blocks = blocks.having(old_log_probs=behind)
            if "prefix_counts" in items:
                blocks = blocks.having(counts=_partly(blocks["counts"], items))
            items = items.only(*(name for name in items if name not in ("prefix_ids", "prefix_counts")))
        return items.having(
            **blocks,
            ended=written.ended,
            length=written.lengths,
            surprise=-written.log_probs.sum(1),
            written=said,
        )

    def _count(self, rows: Rows) -> None:
        if "reward" in rows:
            if (most := int(rows["row"].max()) + 1) > len(self.tally.written):
                self.tally.grow(most)
            self.tally.add(rows["row"], rows["reward"], rows["length"], rows["surprise"])

    def leave(self) -> Mapping[str, Any]:
        return {self.part.name: {**self.tally.state_dict(), "faults": self.faults}}


def _numbered(items: Rows, copies: int, first: int) -> Rows:
    """Rows of whole groups, with the number of the `group` and the number in it, `copy`."""
    place = torch.arange(items.count)
    return items.having(group=first + place // copies, copy=place % copies)


def _partly(counts: Tensor, items: Rows) -> Tensor:
    """The blocks' counts, of which each token of a prefix has its own."""
    counts = counts.clone()
    for row, (ids, each) in enumerate(zip(items["prompt_ids"], items["prefix_counts"], strict=True)):
        counts[row, len(ids) - 1 : len(ids) - 1 + len(each)] = torch.tensor(each, dtype=counts.dtype)
    return counts


def _teaches(rows: Rows) -> Tensor:
    """Whether any answer of a row's group has an advantage, bool [rows]."""
    A: Tensor = rows["advantage"]
    apart = A.flatten(1).abs().amax(1) if A.dim() > 1 else A.abs()
    _, group = rows["group"].unique(return_inverse=True)
    return apart.new_zeros(int(group.max()) + 1).scatter_reduce_(0, group, apart, "amax")[group] > 0
