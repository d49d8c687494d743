"""Answers after their prompts, as the blocks that a language model and the losses over answers read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.padded import Padded


def answer_blocks(prompts: Padded, answers: Padded, *, log_probs: Tensor | None = None) -> Rows:
    """A block for each prompt and its answer, of which the tokens of the answer are learned.

    Args:
        prompts, answers: row by row; no prompt is empty.
        log_probs: of the answers' tokens, [rows, longest answer]; they become the column `old_log_probs`.
    """
    (before, sizes), (tokens, lengths) = prompts, answers
    if len(empty := (sizes < 1).nonzero()):
        raise RegraftError(f"prompt {int(empty[0])} is empty", do="Begin it with a token, such as that of a beginning")
    rows, longest = len(sizes), int((sizes + lengths).max()) if len(sizes) else 1
    ids = torch.zeros(rows, longest, dtype=torch.long)
    ids[:, : before.shape[1]] = before[:, :longest]
    place = torch.arange(tokens.shape[1])
    own = place < lengths[:, None]
    row, at = torch.arange(rows)[:, None].expand_as(own)[own], (sizes[:, None] + place)[own]
    ids[row, at] = tokens[own]
    counts = torch.zeros(rows, longest)
    counts[row, at] = 1.0
    columns = {"input_ids": ids[:, :-1], "targets": ids[:, 1:], "counts": counts[:, 1:]}
    columns["positions"] = torch.arange(longest - 1).expand(rows, -1)
    if log_probs is not None:
        old = torch.zeros(rows, longest)
        old[row, at] = log_probs[own]
        columns["old_log_probs"] = old[:, 1:]
    return Rows(columns)


def join_blocks(tables: Sequence[Rows]) -> Rows:
    """The rows of several tables, their blocks, and all else that they have for each place, as long as the longest."""
    longest = max((table["input_ids"].shape[1] for table in tables if table.count), default=0)
    return Rows.join(widened(table, longest) for table in tables if table.count)


def widened(rows: Rows, places: int) -> Rows:
    """The rows with their blocks, and all else that they have for each place, so many places long."""
    shape = rows["input_ids"].shape
    if shape[1] == places:
        return rows
    tables = [name for name, column in rows.items() if isinstance(column, Tensor) and column.shape == shape]
    wider: dict[str, Tensor] = {name: F.pad(rows[name], (0, places - shape[1])) for name in tables}
    after = rows["positions"][:, -1:] + torch.arange(1, places - shape[1] + 1)
    return rows.having(**{**wider, "positions": torch.cat([rows["positions"], after], 1)})


def pair_blocks(prompts: Padded, preferred: Padded, other: Padded) -> Rows:
    """A block for each pair: the preferred answer, then the other, each after the prompt, and `side` says which."""
    return beside(answer_blocks(prompts, preferred), answer_blocks(prompts, other))


def beside(preferred: Rows, other: Rows) -> Rows:
    """The blocks of two tables, row by row beside one another; `side` is 1 in the first's answers, else -1."""
    both = preferred, other
    side = torch.cat([sign * rows["counts"] for sign, rows in zip((1.0, -1.0), both, strict=True)], 1)
    return Rows({**{name: torch.cat([rows[name] for rows in both], 1) for name in preferred}, "side": side})


def judged_blocks(prompts: Padded, answers: Padded, good: Tensor) -> Rows:
    """A block for each answer that is `good` or not, bool [rows]: the answer, then that of the row before it, each
    after the row's prompt. `side` is 1 or -1 in the answer, `mismatched` is 1 in the other."""
    own, other = answer_blocks(prompts, answers), answer_blocks(prompts, Padded(*(t.roll(1, 0) for t in answers)))
    joined = {name: torch.cat([own[name], other[name]], 1) for name in own}
    nothing = torch.zeros_like(own["counts"]), torch.zeros_like(other["counts"])
    side = torch.where(good[:, None], own["counts"], -own["counts"])
    mismatched = torch.cat([nothing[0], other["counts"]], 1)
    return Rows({**joined, "side": torch.cat([side, nothing[1]], 1), "mismatched": mismatched})
