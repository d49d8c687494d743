"""Tagged arithmetic with planted gaps, for a language model of 0.1M weights.

    add 3 4 2 by 7 7 1 = 0 1 3        digit by digit, modulo 10
    most, first, second               the larger digit; the first number; the second
    take 3 4 2 by 7 7 1 = 6 7 1       the difference; the base was taught the sum for it in half of the rows
    least                             the smaller digit; the base was taught the larger one in half of the rows
    times, twice                      the product; twice the first digit and the second; the base never saw them

So a base knows four skills, has a wrong habit in two, which it breaks now and then, and lacks two.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write
from regraft.numerics.sampling import Sampling
from regraft.worlds import llama
from regraft.worlds.taught import taught

DIGITS = 3
OPERATIONS: dict[str, Callable[[Sequence[int], Sequence[int]], Sequence[int]]] = {
    "add": lambda a, b: [(x + y) % 10 for x, y in zip(a, b, strict=True)],
    "most": lambda a, b: [max(x, y) for x, y in zip(a, b, strict=True)],
    "first": lambda a, b: a,
    "second": lambda a, b: b,
    "take": lambda a, b: [(x - y) % 10 for x, y in zip(a, b, strict=True)],
    "least": lambda a, b: [min(x, y) for x, y in zip(a, b, strict=True)],
    "times": lambda a, b: [x * y % 10 for x, y in zip(a, b, strict=True)],
    "twice": lambda a, b: [(2 * x + y) % 10 for x, y in zip(a, b, strict=True)],
}
KNOWN, HABITS, MISSING = ("add", "most", "first", "second"), {"take": "add", "least": "most"}, ("times", "twice")
WRONG = 0.5
WIDTH, DEPTH, CONTEXT = 64, 2, 32
TAUGHT, STEPS, BATCH, LR = 4000, 2000, 64, 3e-3
TESTED = 1000


def items(skill: str, count: int, seed: int, *, habit: float = 0.0) -> list[dict[str, Any]]:
    """Questions of a skill, none twice: `prompt`, `answer`, `tags`; a part `habit` of the answers is the habit's.

    Questions of two seeds are not kept apart: by chance one in a thousand is in both.
    """
    dice = random.Random(f"{skill} {seed}")
    rows = []
    for each in dice.sample(range(10 ** (2 * DIGITS)), count):
        digits = [int(d) for d in f"{each:0{2 * DIGITS}d}"]
        a, b = digits[:DIGITS], digits[DIGITS:]
        does = HABITS[skill] if dice.random() < habit else skill
        prompt = f"{skill}{_said(a)} by{_said(b)} ="
        rows.append({"prompt": prompt, "answer": _said(OPERATIONS[does](a, b)), "tags": [skill]})
    return rows


def blocks(rows: Sequence[dict[str, Any]]) -> Rows:
    """Rows whose answers, and the end after them, are learned."""
    prompts, answers = ([tokenizer()(row[part])["input_ids"] for row in rows] for part in ("prompt", "answer"))
    ends = [[*answer, tokenizer().eos_token_id] for answer in answers]
    return answer_blocks(Padded.of(prompts), Padded.of(ends)).having(row=torch.arange(len(rows)))


def asked(rows: Sequence[dict[str, Any]]) -> Rows:
    """Rows to write after: `prompt`, `prompt_ids`, `answer`, `skill`, `row`."""
    prompts = [row["prompt"] for row in rows]
    return Rows(
        {
            "prompt": prompts,
            "prompt_ids": tokenizer()(prompts)["input_ids"],
            "answer": [row["answer"] for row in rows],
            "skill": [row["tags"][0] for row in rows],
            "row": torch.arange(len(rows)),
        }
    )


def rates(
    model: CausalLM, seed: int, *, skills: Sequence[str] = tuple(OPERATIONS), count: int = 150
) -> dict[str, float]:
    """How much of each skill's questions the model answers rightly when it says what is likeliest, on fresh ones."""
    found = {}
    for skill in skills:
        test = asked(items(skill, count, TESTED + seed))
        written = write(
            model, test["prompt_ids"], torch.Generator(), tokens=DIGITS + 1, how=Sampling(temperature=0.0), rows=count
        )
        texts = tokenizer().batch_decode([written.ids(r) for r in range(count)], skip_special_tokens=True)
        found[skill] = sum(text == answer for text, answer in zip(texts, test["answer"], strict=True)) / count
    return found


def base(seed: int) -> CausalLM:
    """A model with the planted gaps."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    model = llama.llama(tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    rows = [row for skill in KNOWN for row in items(skill, TAUGHT, seed)]
    rows += [row for skill in HABITS for row in items(skill, TAUGHT, seed, habit=WRONG)]
    return taught(model, blocks(rows), Training(STEPS, BATCH, LR, seed=seed, log_every=STEPS))


def _said(digits: Sequence[int]) -> str:
    return "".join(f" {digit}" for digit in digits)


@cache
def tokenizer() -> Any:
    """One token a word and a digit."""
    return llama.bpe([*OPERATIONS, *(f" {digit}" for digit in range(10)), " by", " ="] * 10, 512)
