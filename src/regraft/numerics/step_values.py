"""What answers are worth after each of their steps: how often a model that goes on from there ends rightly."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write_after
from regraft.numerics.steps import Steps
from regraft.numerics.trying import Asking


class Tails(NamedTuple):
    """Answers gone on with from every place before a step, `row` by row and `step` by step, K times from each.

    Attributes:
        row, step: which answer, and before which of its steps, int64 [places].
        rewards: [places, K].
        answers: the whole answers, K rows for each place.
    """

    row: Tensor
    step: Tensor
    rewards: Tensor
    answers: Padded


def prefixes(rows: Rows, steps: Steps) -> list[list[list[int]]]:
    """What is written of each answer after each step, from none of them to all: token ids."""
    found = []
    for targets, of, count in zip(rows["targets"], steps.of, steps.counts.tolist(), strict=True):
        own = of >= 0
        tokens, upto = targets[own].tolist(), of[own].bincount(minlength=count).cumsum(0).tolist()
        found.append([tokens[:n] for n in (0, *upto)])
    return found


def gone_on(
    model: Any, items: Rows, judge: Transform, asking: Asking, ctx: Context, dice: torch.Generator
) -> tuple[Rows, Padded]:
    """Each answer, begun with `prefix_ids`, gone on with once: the rows judged, and the whole answers."""
    begun = items["prefix_ids"]
    how: dict[str, Any] = {"tokens": asking.tokens, "how": asking.how, "stop": asking.stop, "rows": asking.at_once}
    written = write_after(model, items["prompt_ids"], begun, dice, **how)
    answers = [[*own, *written.ids(row)] for row, own in enumerate(begun)]
    said = model.tokenizer.batch_decode(answers, skip_special_tokens=True) if answers else []
    return judge(items.having(written=said), ctx), Padded.of(answers)


def tails(
    model: Any, rows: Rows, steps: Steps, judge: Transform, asking: Asking, ctx: Context, dice: torch.Generator
) -> Tails:
    """Goes on with answers `asking.copies` times from the place before each of their steps.

    Args:
        rows: answers as blocks: `prompt_ids`, and what the judge reads.
    """
    own, K = prefixes(rows, steps), asking.copies
    at = [(row, k) for row, each in enumerate(own) for k in range(len(each) - 1)]
    row, step = torch.tensor(at, dtype=torch.long).view(-1, 2).unbind(1)
    items = rows.take(row).having(prefix_ids=[own[row][k] for row, k in at]).repeat(K)
    judged, answers = gone_on(model, items, judge, asking, ctx, dice)
    return Tails(row, step, judged["reward"].float().view(-1, K), answers)


def valued(rows: Rows, steps: Steps, found: Tails) -> Tensor:
    """Q of every answer before its first step, after it, ... and at its end, float32 [rows, 1 + most steps]; NaN after
    that.

        Q(x, y_1..k) = the mean reward of the tails after step k;   at the end: the answer's own reward
    """
    Q = torch.full((rows.count, 1 + steps.most), torch.nan)
    Q[found.row, found.step] = found.rewards.mean(1)
    Q[torch.arange(rows.count), steps.counts] = rows["reward"].float()
    return Q


def step_values(
    model: Any, rows: Rows, steps: Steps, judge: Transform, asking: Asking, ctx: Context, dice: torch.Generator
) -> Tensor:
    """`valued` of `tails`: of answers that are judged, as blocks with a `reward`."""
    return valued(rows, steps, tails(model, rows, steps, judge, asking, ctx, dice))
