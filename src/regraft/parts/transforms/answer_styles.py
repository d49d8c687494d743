"""Answer style diversification: a share of a task's rows is said in the answer styles of other tasks.

    rows r_1 .. r_n  ->  a share X of them, drawn at random, is replaced by the same rows in another style,
                         one style as often as another

A task that is learned in one style alone makes a model answer everything in it. A row keeps its place. A row that the
table has in no other style stays.

Paper:   "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning" Chen et al.
         2025. https://arxiv.org/abs/2505.02486
Needs:   rows `source`, each another saying of a row: with its columns, and `of`, the place of that row, and `style`, a
         number. Who rewrites them is not said here: in the paper, a language model.
Tags:    augmentation, language model, continual fine-tuning
"""

from __future__ import annotations

import torch

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows


@transform
def answer_styles(rows: Rows, ctx: Context, *, X: float = 0.2, source: str = "styles") -> Rows:
    if not 0 <= X <= 1:
        raise RegraftError(f"answer_styles: X is {X}; it must be in [0, 1]")
    others = ctx.rows(source)
    count = round(X * rows.count)
    if not count or not others:
        return rows
    of, (known, style) = others["of"], others["style"].unique(return_inverse=True)
    if int(of.min()) < 0 or int(of.max()) >= rows.count:
        raise RegraftError(f"answer_styles: `of` is {int(of.min())} to {int(of.max())}; there are {rows.count} rows")
    said = torch.full((rows.count, len(known)), -1)
    said[of, style] = torch.arange(others.count)
    if int((said >= 0).sum()) < others.count:
        raise RegraftError("answer_styles: a row is there twice in one style", where=source, do="Keep one of them")
    chosen = torch.randperm(rows.count, generator=ctx.rng)[:count]
    there = said[chosen] >= 0
    turn = torch.arange(count) % there.sum(1).clamp(min=1)
    style = (there.cumsum(1) == turn[:, None] + 1).int().argmax(1)
    index = torch.arange(rows.count)
    index[chosen] = torch.where(there.any(1), rows.count + said[chosen, style], chosen)
    return Rows.join([rows, others.only(*rows)]).take(index)
