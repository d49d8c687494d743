"""Answers as steps: where each ends, what it is worth, and what an answer is worth by its steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.core.rows import Rows
from regraft.numerics.token_loss import asked

By: TypeAlias = Literal["min", "sum", "mean", "product", "last"]
"""How what steps are worth becomes what an answer is worth."""
RIGHT, WRONG = "+", "-"
"""The tokens that a judge says of a step."""


class Steps(NamedTuple):
    """The steps of blocks that hold one answer each; an answer is what counts.

    Attributes:
        of: the step of each target, from 0; -1 outside of the answer, int64 [rows, places].
        last: whether a target is the last of its step, bool [rows, places].
        counts: how many steps there are, int64 [rows].
    """

    of: Tensor
    last: Tensor
    counts: Tensor

    @property
    def most(self) -> int:
        return int(self.counts.max()) if len(self.counts) else 0

    @property
    def there(self) -> Tensor:
        """Which steps there are, bool [rows, most]."""
        return torch.arange(self.most) < self.counts[:, None]


def steps_of(rows: Rows, ends: Tensor) -> Steps:
    """The steps of answers; `ends`: which tokens end one, bool [tokens]. The last token of an answer ends one, too."""
    own = rows["counts"] > 0
    behind = own.flip(1).cumsum(1).flip(1)
    last = own & (ends[rows["targets"]] | (behind == 1))
    before = last.cumsum(1) - last.long()
    return Steps(before.masked_fill(~own, -1), last, last.sum(1))


def ends_in(model: Any, texts: Sequence[str]) -> Tensor:
    """Which tokens of a language model hold one of these texts, and so end a step, bool [tokens].

    Raises RegraftError for a text that no token holds.
    """
    return _ends_in(model.tokenizer, tuple(texts), model.module.get_input_embeddings().weight.shape[0])


@lru_cache(maxsize=8)
def _ends_in(tokenizer: Any, texts: tuple[str, ...], size: int) -> Tensor:
    pieces = tokenizer.batch_decode([[i] for i in range(size)])
    if odd := [text for text in texts if not text or not any(text in piece for piece in pieces)]:
        raise RegraftError(f"no token holds {odd[0]!r}, so it ends no step", do="Take a text that is one token")
    return torch.tensor([any(text in piece for text in texts) for piece in pieces])


def summed(values: Tensor, steps: Steps) -> Tensor:
    """The sum of each step's places, [rows, most steps]; 0 after the last step.

    Args:
        values: of targets, [rows, places].
    """
    inside = steps.of >= 0
    sums = values.new_zeros(len(values), max(steps.most, 1))
    sums.scatter_add_(1, steps.of.clamp(min=0), values.masked_fill(~inside, 0.0))
    return sums[:, : steps.most]


def at_ends(values: Tensor, steps: Steps) -> Tensor:
    """What stands at the last target of each step, [rows, most steps]; 0 after the last step."""
    return summed(values.masked_fill(~steps.last, 0.0), steps)


def on_places(values: Tensor, steps: Steps) -> Tensor:
    """The other way round: values of steps, [rows, most steps], at the last target of each, [rows, places]."""
    if not steps.most:
        return values.new_zeros(steps.of.shape)
    return values.gather(1, steps.of.clamp(min=0)).masked_fill(~steps.last, 0.0)


def worth(values: Tensor, steps: Steps, by: By) -> Tensor:
    """What answers are worth by their steps, [rows]; 0 for one that has none.

    Args:
        values: of steps, [rows, most steps].
    """
    there, n = steps.there, steps.counts
    if by == "min":
        values, there = (
            torch.cat([values, values.new_zeros(len(values), 1)], 1),
            torch.cat([there, (n == 0)[:, None]], 1),
        )
        return values.masked_fill(~there, torch.inf).amin(1)
    if by == "last":
        return on_last(values, n)
    if by == "product":
        return values.masked_fill(~there, 1.0).prod(1) * (n > 0)
    total = values.masked_fill(~there, 0.0).sum(1)
    return total if by == "sum" else total / n.clamp(min=1)


def on_last(values: Tensor, counts: Tensor) -> Tensor:
    """The last of each row's first `counts` values, [rows]; 0 where there is none."""
    values = torch.cat([values, values.new_zeros(len(values), 1)], 1)
    return values.gather(1, torch.where(counts > 0, counts - 1, values.shape[1] - 1)[:, None])[:, 0]


def check_by(by: str, part: str) -> None:
    if by not in ("min", "sum", "mean", "product", "last"):
        raise RegraftError(f"{part}: by is {by!r}; it must be 'min', 'sum', 'mean', 'product' or 'last'")


def judged(rows: Rows, labels: Tensor) -> Rows:
    """Blocks from which a language model learns to judge, by the loss `judgement`.

    Args:
        labels: of what is read up to each target: 1 right, 0 wrong, or in between; NaN: not told. [rows, places].
    """
    labels = torch.cat([labels.new_full((rows.count, 1), torch.nan), labels], 1)
    told, whole = ~labels.isnan(), _whole(rows)
    columns = {"targets": whole["input_ids"], "counts": told.float(), "told": labels.masked_fill(~told, 0.0)}
    return whole.having(**columns, row=torch.arange(rows.count))


def leads(view: View) -> Tensor:
    """How much likelier RIGHT is than WRONG after each place, in nats, [rows, places]."""
    model: Any = view.model
    right, wrong = (model.tokenizer.encode(said, add_special_tokens=False) for said in (RIGHT, WRONG))
    if len(right) != 1 or len(wrong) != 1:
        raise RegraftError(f"{RIGHT!r} and {WRONG!r} are not one token each", do="Take a model that has them")
    return view.logits[..., right[0]] - view.logits[..., wrong[0]]


def right_of(model: Any, rows: Rows, chunk: int = 256) -> Tensor:
    """How likely a judge says RIGHT, and not WRONG, after each target, float32 [rows, places]."""
    whole = _whole(rows)
    ids: Tensor = whole["input_ids"]
    said = whole.having(targets=ids, counts=torch.ones(ids.shape))
    return asked(model, said, lambda view: leads(view).sigmoid(), chunk)[:, 1:]


def _whole(rows: Rows) -> Rows:
    """Every token of blocks is read, [rows, places + 1]."""
    ids = torch.cat([rows["input_ids"][:, :1], rows["targets"]], 1)
    return Rows({"input_ids": ids, "positions": torch.arange(ids.shape[1]).expand(ids.shape)})
