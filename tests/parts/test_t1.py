"""What T1 adds: accuracy when thinking is cut off, and a reward for not repeating oneself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Measurement
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.numerics.forced import cut_off, thinking
from regraft.numerics.rollout import Written, write
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import Tried
from regraft.numerics.verify import answer
from regraft.parts.metrics.accuracy_by_budget import accuracy_by_budget
from regraft.parts.transforms.repetition_reward import repetition_reward
from regraft.recipes.answered import still
from regraft.worlds import chains, llama

TOKENS = chains.TOKENS


def model() -> CausalLM:
    found = llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=0)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in found.module.parameters():
            p += 0.3 * torch.randn(p.shape, generator=dice)
    return found


def items(count: int = 40) -> Rows:
    return chains.asked(chains.items(3, count, 0))


def measured(questions: Rows, student: CausalLM | None = None, **knobs: Any) -> Measurement:
    student = student or model()
    ctx = replace(still(student, torch.Generator().manual_seed(0)), data={"items": questions})
    own = {"judge": chains.judge(), "force": " so", "tokens": TOKENS, "after": 3, **knobs}
    return accuracy_by_budget(**own)(student, ctx)


def tried_of(rows: list[list[int]]) -> Tried:
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    nothing: Any = None
    return Tried(Rows({"row": torch.arange(len(rows))}), Written(lengths, tokens, lengths, nothing, nothing), 1)


def test_thinking_ends_where_the_answer_is_asked_for() -> None:
    answers = tried_of([[5, 7, 8, 2], [7, 8], [5, 5, 7], [7, 7, 8, 7, 8], [1]])
    assert thinking(answers, [7, 8]).tolist() == [1, 0, 3, 1, 1]
    assert thinking(answers, [1] * 9).tolist() == [4, 2, 3, 5, 1], "never, in answers that are too short for it"
    assert thinking(tried_of([[3, 4], [3]]), [4, 0]).tolist() == [2, 1], "what fills a row up is none of it"
    begun = cut_off(answers, torch.tensor([3, 0]), 2, [7, 8])
    assert begun["prefix_ids"] == [[7, 7, 7, 8], [5, 7, 7, 8]]
    assert begun["row"].tolist() == [3, 0]


def test_cut_off_at_once_it_is_what_is_likeliest_after_the_force() -> None:
    student, questions = model(), items()
    found = measured(questions, student, budgets=(0, 3, TOKENS)).numbers
    force = student.tokenizer(" so", add_special_tokens=False)["input_ids"]
    prompts = [[*ids, *force] for ids in questions["prompt_ids"]]
    written = write(student, prompts, torch.Generator(), tokens=3, how=Sampling(0.0))
    texts = student.tokenizer.batch_decode([written.ids(r) for r in range(len(prompts))], skip_special_tokens=True)
    right = [answer(f" so{text}", chains.ANSWER) == a for text, a in zip(texts, questions["answer"], strict=True)]
    whole = write(student, questions["prompt_ids"], torch.Generator(), tokens=TOKENS, how=Sampling(0.0))
    begins = [force == whole.ids(r)[: len(force)] for r in range(len(prompts))]
    assert not any(begins)
    assert found["accuracy@0"] == pytest.approx(sum(right) / len(right))
    assert found["cut@0"] == 1
    said = student.tokenizer.batch_decode([whole.ids(r) for r in range(len(prompts))], skip_special_tokens=True)
    last = [answer(text, chains.ANSWER) == a for text, a in zip(said, questions["answer"], strict=True)]
    assert found[f"accuracy@{TOKENS}"] == pytest.approx(sum(last) / len(last))
    assert found[f"cut@{TOKENS}"] == 0
    assert found["cut@0"] >= found["cut@3"] >= 0
    p = [found[f"accuracy@{b}"] for b in (0, 3, TOKENS)]
    assert found["area"] == pytest.approx((3 * (p[0] + p[1]) + (TOKENS - 3) * (p[1] + p[2])) / 2 / TOKENS)


def test_odd_budgets_and_questions() -> None:
    one = measured(items(1), budgets=(2,), copies=3, temperature=1.0)
    assert one.numbers["area"] == one.numbers["accuracy@2"]
    assert [row["budget"] for row in one.tables["budgets"]] == [2]
    for budgets in ((), (-1,), (3, 3), (4, 2)):
        with pytest.raises(RegraftError, match="they must be 0 or more, and rise"):
            measured(items(1), budgets=budgets)
    with pytest.raises(RegraftError, match="force is empty"):
        measured(items(1), budgets=(1,), force="")
    with pytest.raises(RegraftError, match="no question"):
        measured(items(1).take(slice(0, 0)), budgets=(1,))


def rewarded(rows: list[list[int]], **knobs: Any) -> list[float]:
    longest = max(map(len, rows))
    targets = torch.tensor([[9, *row, *[0] * (longest - len(row))] for row in rows])
    counts = torch.tensor([[0.0, *[1.0] * len(row), *[0.0] * (longest - len(row))] for row in rows])
    nothing: Any = None
    found: list[float] = repetition_reward(**knobs)(Rows({"targets": targets, "counts": counts}), nothing)[
        "reward"
    ].tolist()
    return found


def test_repetition_is_the_part_of_runs_that_were_there_before() -> None:
    rows = [[1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5, 6], [1, 1, 1], [1], [9, 1]]
    wanted = []
    for row in rows:
        grams = [tuple(row[i : i + 2]) for i in range(len(row) - 1)]
        wanted.append(-0.5 * (len(grams) - len(set(grams))) / max(len(grams), 1))
    assert rewarded(rows, n=2, most=0.5) == pytest.approx(wanted)
    assert wanted == [-0.3, 0.0, -0.25, 0.0, 0.0]
    assert rewarded(rows, n=9) == [0.0] * 5
    assert rewarded([[3, 3]], n=1) == [-0.5]
    assert rewarded([[1, 1, 1, 1]], n=2, most=0.0) == [0.0]
    for knobs in ({"n": 0}, {"most": -1.0}):
        with pytest.raises(RegraftError, match="repetition_reward"):
            rewarded(rows, **knobs)
