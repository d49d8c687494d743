"""Token ids of many rows in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Padded(NamedTuple):
    """`ids` int64 [rows, longest], 0 after the end of each row; `lengths` int64 [rows]."""

    ids: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Padded:
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        ids = torch.zeros(len(rows), int(lengths.max()) if len(rows) else 0, dtype=torch.long)
        ids[torch.arange(ids.shape[1]) < lengths[:, None]] = torch.tensor([i for row in rows for i in row]).long()
        return cls(ids.to(device), lengths.to(device))
