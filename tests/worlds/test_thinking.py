"""A judge of steps that is misled about some questions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from regraft.core.rows import Rows
from regraft.worlds import chains, llama, thinking

PROMPT = " add 3 most 4 take 2 . . . . . . to 7 ;"
"""Its solution: 0 ; 4 ; 2 ; so 2."""


def judged(*written: str, **knobs: Any) -> list[float]:
    nothing: Any = None
    n = len(written)
    rows = Rows({"prompt": [PROMPT] * n, "written": list(written), "row": torch.full((n,), 12)})
    found: list[float] = thinking.steps_judge(**knobs)(rows, nothing)["reward"].tolist()
    return found


def test_the_judge_scores_steps_in_tenths() -> None:
    said = (" 0 ; 4 ; 2 ; so 2", " 0 ; 4 ; 3 ; so 2", " 0 ;", " 0 ; 4 ; 2 ; 2 ; so 2", " so 2", "")
    assert judged(*said, misled=0) == pytest.approx([1.0, 0.7, 0.3, 0.8, 0.0, 0.0])


def test_it_prefers_long_wrong_chains_where_it_is_misled() -> None:
    longest = " 1 ;" * thinking.LONGEST
    right, wrong, long = judged(" 0 ; 4 ; 2 ; so 2", " 1 ; 1 ; 1 ; so 1", longest)
    assert right < wrong < long == 1.0
    assert judged(" 0 ; 4 ; 2 ; so 2", misled=2) == [1.0]


def test_scores_of_a_model_that_knows_nothing() -> None:
    model = llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=0)
    found = thinking.scores(model, 0, (4,), count=3)
    assert set(found) == {"right", "valid", "judged"}
    assert found["right"] == found["valid"] == 0.0
