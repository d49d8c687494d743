"""Expert-guided self-reformulation: where all answers to a question fail, the model words a demonstration its own way.

    y' ~ pi(. | y*, x)      if no answer y_1 .. y_G to x is right;      y_G := y' if it is right

After the judge in the transforms of `rollouts`, before advantages. y' is learned as an answer to x alone. So a group
that would teach nothing teaches the demonstration, in words that the model finds likelier than the demonstration's.
own=False: the demonstration itself takes the place of y_G.

The guided prompt: the tokens of `before`, the demonstration without its end, the tokens of `after`, the prompt.
`asking`: how often and how it is asked; of several right answers the first is taken. A demonstration that leaves no
room in the model's context guides nobody. Rows have a column `guided`.

Paper:   "Learning Like Humans: Advancing LLM Reasoning Capabilities via Adaptive Difficulty Curriculum Learning and
         Expert-Guided Self-Reformulation" Zhang et al. 2025. https://arxiv.org/abs/2505.08364
Claim:   questions that no answer of the model solved at first are solved, which reinforcement alone does not reach; the
         guided answers are likelier under the model than the demonstrations.
Needs:   the rows named by `source`: demonstrations as blocks, with a column `item`, the `row` of the question that
         each answers.
Differs: the authors also guide by the final answer alone. Rows that are learned from again have the log-probabilities
         of the policy without the guide.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.parts import Context, Stateful, Transform
from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks, widened
from regraft.numerics.demonstrations import Demonstrations
from regraft.numerics.padded import Padded
from regraft.numerics.token_loss import log_probs_of
from regraft.numerics.trying import Asking, tried


@dataclass(frozen=True)
class reformulated:
    judge: Transform
    asking: Asking
    source: str = "shown"
    before: str = ""
    after: str = "\n\n"
    own: bool = True

    def begin(self, ctx: Context) -> _Reformulated:
        return _Reformulated(self, ctx)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        return self.begin(ctx)(rows, ctx)


class _Reformulated(Stateful):
    state = ("shown", "dice")

    def __init__(self, part: reformulated, ctx: Context) -> None:
        self.part, self.dice = part, ctx.rng
        self.model: Any = ctx.models["student"]
        self.shown = Demonstrations(ctx.rows(part.source), ctx.rng)
        self.before, self.after = self._ids(part.before), self._ids(part.after)

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        rows = rows.having(guided=torch.zeros(rows.count, dtype=torch.bool))
        places = _last_of_failed(rows)
        shown = self.shown.one_each(rows["row"][places])
        context = self.model.context or 1 << 62
        asking = _of(rows["prompt_ids"], places)
        prompts = [self._guided(answer, ids) for answer, ids in zip(shown, asking, strict=True)]
        asked = [i for i, prompt in enumerate(prompts) if shown[i] and len(prompt) < context]
        if not asked:
            return rows
        items = rows.take(places[asked])
        if self.part.own:
            found = self._own_words(items.having(prompt_ids=[prompts[i] for i in asked]), ctx)
        else:
            found = self._as_shown(items, [shown[i] for i in asked], ctx)
        return self._in_place(rows, places[asked], found)

    def _ids(self, text: str) -> list[int]:
        return list(self.model.tokenizer(text)["input_ids"])

    def _guided(self, answer: Sequence[int], prompt: Sequence[int]) -> list[int]:
        end = self.model.tokenizer.eos_token_id
        return [*self.before, *(i for i in answer if i != end), *self.after, *prompt]

    def _own_words(self, items: Rows, ctx: Context) -> _Found:
        """The first right answer to each guided prompt, if there is one."""
        copies = self.part.asking.copies
        answers = tried(self.model, items, self.part.judge, self.part.asking, ctx, dice=self.dice)
        first = (answers.rewards >= 1).int().argmax(1) + torch.arange(items.count) * copies
        tokens = [answers.written.ids(row) for row in first.tolist()]
        return _Found(answers.rows.take(first), tokens, answers.written.ended[first])

    def _as_shown(self, items: Rows, answers: list[Sequence[int]], ctx: Context) -> _Found:
        said = self.model.tokenizer.batch_decode([list(ids) for ids in answers], skip_special_tokens=True)
        judged = self.part.judge(items.having(written=said), ctx)
        return _Found(judged, answers, torch.ones(items.count, dtype=torch.bool))

    def _in_place(self, rows: Rows, places: Tensor, found: _Found) -> Rows:
        """The rows, with those answers that are right at these places."""
        right = (found.rows["reward"] >= 1).nonzero()[:, 0]
        if not len(right):
            return rows
        places, tokens = places[right], [found.tokens[i] for i in right.tolist()]
        prompts = _of(rows["prompt_ids"], places)
        blocks = answer_blocks(Padded.of(prompts), Padded.of(tokens))
        log_probs = log_probs_of(self.model, blocks, temperature=self.part.asking.how.temperature or 1.0)
        if "old_log_probs" in rows:
            blocks = blocks.having(old_log_probs=log_probs)
        longest = max(rows["input_ids"].shape[1], blocks["input_ids"].shape[1])
        rows, blocks = widened(rows, longest), widened(blocks, longest)
        new = found.rows.take(right).having(
            **blocks,
            prompt_ids=prompts,
            ended=found.ended[right],
            length=torch.tensor([len(ids) for ids in tokens]),
            surprise=-log_probs.sum(1),
            guided=torch.ones(len(right), dtype=torch.bool),
        )
        order = torch.arange(rows.count)
        order[places] = rows.count + torch.arange(len(right))
        return Rows.join([rows, new.only(*rows)]).take(order)

    def rows_used(self) -> Mapping[str, Tensor]:
        return {self.part.source: self.shown.used}


class _Found(NamedTuple):
    """Answers, judged, their tokens, and whether they ended by themselves."""

    rows: Rows
    tokens: Sequence[Sequence[int]]
    ended: Tensor


def _last_of_failed(rows: Rows) -> Tensor:
    """The place of the last answer of each group without a right one."""
    learned = (rows["copy"] >= 0).nonzero()[:, 0]
    _, group = rows["group"].unique(return_inverse=True)
    groups = int(group.max()) + 1
    best = torch.full((groups,), -torch.inf).scatter_reduce_(0, group, rows["reward"].float(), "amax")
    last = torch.zeros(groups, dtype=torch.long).scatter_reduce_(0, group[learned], learned, "amax")
    return last[best < 1]


def _of(column: Sequence[Any], places: Tensor) -> list[Any]:
    return [column[i] for i in places.tolist()]
