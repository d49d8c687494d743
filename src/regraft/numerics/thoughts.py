"""Answers as blocks of thinking, which come before the answer proper: where each of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.forced import thinking
from regraft.numerics.rollout import Written
from regraft.numerics.steps import ends_in
from regraft.numerics.trying import Tried


def forcing(model: Any, force: str) -> list[int]:
    """The tokens after which an answer must be given."""
    ids: list[int] = model.tokenizer(force, add_special_tokens=False)["input_ids"]
    if not ids:
        raise RegraftError("force is empty", do="Give the text that an answer begins with")
    return ids


def thought_ends(model: Any, rows: Rows, ends: Sequence[str], force: Sequence[int]) -> Tensor:
    """Which targets end a block of thinking: tokens of an answer that hold one of `ends`, before `force` first comes in
    it, and that leave room for `force` and a token in the model's context; bool [rows, places].

    Args:
        rows: answers as blocks, with `prompt_ids`. What an answer was begun with belongs to it, counted or not.
    """
    targets: Tensor = rows["targets"]
    if not targets.numel():
        return targets > 0
    place, nothing = torch.arange(targets.shape[1]), None
    begins = answer_begins(rows)[:, None]
    lengths = ((rows["counts"] > 0) * (place + 1)).amax(1)
    said = targets.masked_fill(place < begins, -1)
    asked: Any = Written(nothing, said, lengths, nothing, nothing)  # type: ignore[arg-type]
    T = thinking(Tried(rows, asked, 1), force)[:, None]
    found: Tensor = ends_in(model, ends)[targets] & (place >= begins) & (place < T)
    return found if model.context is None else found & (place + 2 + len(force) < model.context)


def answer_begins(rows: Rows) -> Tensor:
    """The place of the first target of each answer, int64 [rows]."""
    return torch.tensor([len(ids) - 1 for ids in rows["prompt_ids"]], dtype=torch.long)
