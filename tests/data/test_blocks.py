"""Few documents as blocks in memory: what `pack` makes of them."""

from __future__ import annotations

import numpy as np
import torch

from regraft.data.blocks import blocks
from regraft.data.tokenise import Encoded


def test_documents_end_to_end() -> None:
    answer = Encoded([4, 5, 6], np.array([False, False, True]))
    rows = blocks([Encoded([1, 2, 3]), answer], 4, [0.5, 2.0])
    assert rows["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert rows["positions"].tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    assert rows["targets"].tolist() == [[2, 3, 0, 0], [6, 0, 0, 0]]
    assert rows["counts"].tolist() == [[0.5, 0.5, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]
    assert {name: rows[name].dtype for name in rows} == {
        "input_ids": torch.int64,
        "positions": torch.int64,
        "targets": torch.int64,
        "counts": torch.float32,
    }


def test_a_document_goes_on_in_the_next_block() -> None:
    rows = blocks([Encoded([1, 2, 3, 4, 5])], 2)
    assert rows["input_ids"].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert rows["targets"].tolist() == [[2, 3], [4, 5], [0, 0]]
    assert rows["positions"][:2].tolist() == [[0, 1], [0, 1]]
    assert not blocks([], 2)
