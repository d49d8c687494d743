"""Blocks of answers hold every token once, in its place."""

from __future__ import annotations

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.numerics.answers import answer_blocks, pair_blocks
from regraft.numerics.padded import Padded

PROMPTS, ANSWERS, OTHERS = [[1, 2, 3], [4], [5, 6]], [[7], [8, 9, 10, 11], []], [[12, 13], [], [14]]


def test_answers_follow_their_prompts() -> None:
    tokens, lengths = Padded.of(ANSWERS)
    log_probs = -tokens.float() * (tokens > 0)
    rows = answer_blocks(Padded.of(PROMPTS), Padded(tokens, lengths), log_probs=log_probs)
    for r, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        ids = prompt + answer
        assert rows["input_ids"][r, : len(ids) - 1].tolist() == ids[:-1]
        assert rows["targets"][r, : len(ids) - 1].tolist() == ids[1:]
        learned = rows["counts"][r] > 0
        assert rows["targets"][r][learned].tolist() == answer
        assert rows["old_log_probs"][r][learned].tolist() == [-float(i) for i in answer]
        assert not rows["old_log_probs"][r][~learned].any()
        assert rows["positions"][r].tolist() == list(range(rows["positions"].shape[1]))
        assert not rows["input_ids"][r, len(ids) :].any()


def test_pairs_lie_side_by_side() -> None:
    rows = pair_blocks(Padded.of(PROMPTS), Padded.of(ANSWERS), Padded.of(OTHERS))
    for r in range(len(PROMPTS)):
        side = rows["side"][r]
        assert rows["targets"][r][side > 0].tolist() == ANSWERS[r]
        assert rows["targets"][r][side < 0].tolist() == OTHERS[r]
        assert torch.equal(side != 0, rows["counts"][r] > 0)
    again = (rows["positions"][0] == 0).nonzero()[:, 0].tolist()
    assert len(again) == 2, "positions begin anew with the other answer"


def test_no_rows_and_empty_prompts() -> None:
    assert answer_blocks(Padded.of([]), Padded.of([])).count == 0
    assert answer_blocks(Padded.of([[1]]), Padded.of([[]]))["input_ids"].shape == (1, 0)
    with pytest.raises(RegraftError, match="prompt 1 is empty"):
        answer_blocks(Padded.of([[1], []]), Padded.of([[2], [3]]))
