"""What answers are worth after each of their steps: how often a model that goes on from there ends rightly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write_after
from regraft.numerics.steps import Steps
from regraft.numerics.trying import Asking


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


def step_values(
    model: Any,
    rows: Rows,
    steps: Steps,
    judge: Transform,
    asking: Asking,
    ctx: Context,
    dice: torch.Generator,
) -> Tensor:
    """Q of every answer before its first step, after it, ... and at its end, float32 [rows, 1 + most steps]; NaN after
    that.

        Q(x, y_1..k) = the mean reward of `asking.copies` answers that go on from step k;   at the end: its own reward

    Args:
        rows: answers as blocks, judged: `prompt_ids`, `reward` and what the judge reads.
    """
    own, K = prefixes(rows, steps), asking.copies
    at = [(row, k) for row, each in enumerate(own) for k in range(len(each) - 1)]
    row = torch.tensor([row for row, _ in at], dtype=torch.long)
    items = rows.take(row).having(prefix_ids=[own[row][k] for row, k in at]).repeat(K)
    judged, _ = gone_on(model, items, judge, asking, ctx, dice)
    Q = torch.full((rows.count, 1 + steps.most), torch.nan)
    Q[row, torch.tensor([k for _, k in at], dtype=torch.long)] = judged["reward"].float().view(-1, K).mean(1)
    Q[torch.arange(rows.count), steps.counts] = rows["reward"].float()
    return Q
