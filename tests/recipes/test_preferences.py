"""Pairs of answers that a user brings: how they are read, and what of them is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.rows import Rows
from regraft.numerics.answers import answer_blocks, pair_blocks
from regraft.numerics.padded import Padded
from regraft.recipes.preferences import Preferences, paired
from regraft.worlds import llama

PROMPTS, CHOSEN, REJECTED = [[1, 2], [3], [4]], [[5, 6], [7], [8, 9]], [[5, 9, 9], [8], [8]]


def blocks(prompts: list[list[int]], answers: list[list[int]]) -> Rows:
    return answer_blocks(Padded.of(prompts), Padded.of(answers))


def test_pairs_of_documents_are_pairs_of_answers() -> None:
    found = paired(blocks(PROMPTS * 2, CHOSEN + REJECTED), torch.tensor([[0, 3], [1, 4], [2, 5]]))
    expected = pair_blocks(*(Padded.of(ids) for ids in (PROMPTS, CHOSEN, REJECTED)))
    for sign in (1, -1):
        for row in range(3):
            own, theirs = found["side"][row] == sign, expected["side"][row] == sign
            for name in ("input_ids", "targets", "positions"):
                assert found[name][row, own].tolist() == expected[name][row, theirs].tolist()
    assert torch.equal(found["counts"], found["side"].abs())
    assert found["row"].tolist() == [0, 1, 2]


def test_turns_before_the_one_in_which_they_part_do_not_count() -> None:
    # user 1, answer 2 3, user 4, answer 5 6 or 5 7
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]])
    counts = torch.tensor([[0, 1, 1, 0, 1, 1]] * 2).float()
    documents = Rows(
        {
            "input_ids": ids[:, :-1],
            "targets": ids[:, 1:],
            "counts": counts[:, 1:],
            "positions": torch.arange(5).expand(2, -1),
        }
    )
    found = paired(documents, torch.tensor([[0, 1]]))
    assert found["counts"].tolist() == [[0, 0, 0, 1, 1] * 2]
    assert found["side"].tolist() == [[0, 0, 0, 1, 1, 0, 0, 0, -1, -1]]


@pytest.mark.parametrize("turns", [False, True])
def test_an_answer_may_be_in_several_pairs(tmp_path: Path, turns: bool) -> None:
    def said(text: str) -> Any:
        return [{"role": "assistant", "content": text}] if turns else text

    prompt = [{"role": "user", "content": "say"}] if turns else "say"
    rows = [{"prompt": prompt, "chosen": said("red"), "rejected": said(other)} for other in ("blue", "no")]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = llama.bpe(["say red blue no user assistant"], 300)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    found = Preferences.read(path, tokenizer)
    assert found.corpus.documents == 3
    assert found.sides[0, 0] == found.sides[1, 0]
    assert len(set(found.sides.flatten().tolist())) == 3
