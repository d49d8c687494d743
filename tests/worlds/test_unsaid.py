"""Arithmetic without its operation: what is meant is drawn as often as it says, and chances are those of tries."""

from __future__ import annotations

import pytest
import torch

from regraft.numerics.token_loss import log_probs_of
from regraft.worlds import llama, operations, unsaid


def test_one_operation_is_meant() -> None:
    rows = unsaid.items(2000, 3)
    assert len({row["prompt"] for row in rows}) == 2000
    for row in rows:
        words, (meant,) = row["prompt"].split(), row["tags"]
        assert row["prompt"] == f" {' '.join(words)}"
        a, b = [int(w) for w in words[:3]], [int(w) for w in words[4:7]]
        assert row["answer"].split() == [str(d) for d in operations.OPERATIONS[meant](a, b)]
    for meant, often in unsaid.MEANT.items():
        assert sum(row["tags"] == [meant] for row in rows) / 2000 == pytest.approx(often, abs=0.04)


def test_solved_is_the_chance_that_a_try_is_the_answer() -> None:
    model = llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)
    rows = operations.blocks(unsaid.items(5, 0))
    p = log_probs_of(model, rows).double().sum(1).exp()
    assert unsaid.solved(model, rows, 1) == pytest.approx(100 * float(p.mean()))
    fails = torch.stack([(1 - p)] * 7).prod(0)
    assert unsaid.solved(model, rows, 7) == pytest.approx(100 * float((1 - fails).mean()))
