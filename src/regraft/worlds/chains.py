"""Chains of arithmetic modulo 10, solved step by step, for a language model of 0.1M weights.

    question    add 3 most 2 take 1 . . . . . . to 7 ;
    solution    0 ; 2 ; 1 ; so 1

Difficulty is the number of operations, 1 to 6; every question is as long as the longest, so that a step finds its
operation always at the same distance. The base was taught right solutions of every difficulty, and then some in which a
part of the differences and of the larger numbers are sums. So it errs in any step alike: what has few steps it often
solves, what has many seldom, and some right answers follow from wrong steps.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import torch

from regraft.core.parts import Transform
from regraft.core.rows import Rows
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted, write
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import Asking, spoken
from regraft.numerics.verify import answer
from regraft.parts.transforms.verified import verified
from regraft.recipes.repairing import InMemory, Lesson, Workshop
from regraft.worlds import llama
from regraft.worlds.taught import taught

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: (a + b) % 10,
    "take": lambda a, b: (a - b) % 10,
    "most": max,
}
NUMBERS, MOST = (1, 2, 3), 6
DIFFICULTIES = tuple(range(1, MOST + 1))
STEP, ANSWER, NOTHING = ";", "so", "."
"""What ends a step; what the answer comes after; what stands where a question has no operation."""
MISTAKEN = {"take": 0.5, "most": 0.4}
"""How much of an operation the base was taught as a sum."""
WIDTH, DEPTH, CONTEXT = 64, 2, 64
TAUGHT, RIGHT, WRONG, BATCH, LR = 4000, 1200, 100, 32, 3e-3
"""Questions of each difficulty that the base was taught; updates with right solutions, and with mistaken ones."""
ADAM = {"betas": (0.9, 0.98)}
TOKENS = 2 * MOST + 3
ASKING = Asking(copies=8, tokens=TOKENS, at_once=4096)
LEARNED, TESTED = 500, 1000
"""Seeds of what is learned and of what is asked, beside a run's own."""


def items(difficulty: int, count: int, seed: int) -> list[dict[str, Any]]:
    """Questions of a difficulty: `prompt`, `answer`, `tags`, `difficulty`. There are 90 of difficulty 1."""
    dice = random.Random(f"chain {difficulty} {seed}")
    rows = []
    for _ in range(count):
        chain = [f"{dice.choice(tuple(OPERATIONS))} {dice.choice(NUMBERS)}" for _ in range(difficulty)]
        chain += [f"{NOTHING} {NOTHING}"] * (MOST - difficulty)
        prompt = " ".join(["", *chain, "to", str(dice.randrange(10)), STEP])
        row = {"prompt": prompt, "tags": [f"{difficulty} steps"], "difficulty": difficulty}
        rows.append({**row, "answer": str(values(prompt)[-1])})
    return rows


def values(
    prompt: str, dice: random.Random | None = None, mistaken: Mapping[str, float] = MappingProxyType(MISTAKEN)
) -> list[int]:
    """What each step of a question comes to; with dice, as the base was taught it."""
    *chain, _, start, _ = prompt.split()
    found, now = [], int(start)
    for operation, number in zip(chain[::2], chain[1::2], strict=True):
        if operation == NOTHING:
            break
        slips = dice is not None and dice.random() < mistaken.get(operation, 0.0)
        now = OPERATIONS["add" if slips else operation](now, int(number))
        found.append(now)
    return found


def solution(found: Sequence[int]) -> str:
    """What is written of a question whose steps come to these values."""
    return "".join(f" {value} {STEP}" for value in found) + f" {ANSWER} {found[-1]}"


def first_wrong(prompt: str, written: str) -> int | None:
    """The first step of a solution that is wrong, from 0, and the answer is a step; None: all are right.

    A step that is left out is wrong, and one that is too many.
    """
    right, found = ([step.split() for step in text.split(STEP)] for text in (solution(values(prompt)), written))
    for place, (step, own) in enumerate(zip_longest(right, found)):
        if step != own:
            return place
    return None


def blocks(rows: Sequence[dict[str, Any]], solutions: Sequence[str] | None = None) -> Rows:
    """Rows whose solutions, and the end after them, are learned; none given: the right ones."""
    solutions = [solution(values(row["prompt"])) for row in rows] if solutions is None else solutions
    prompts, answers = (tokenizer()(list(t))["input_ids"] for t in ([row["prompt"] for row in rows], solutions))
    ends = [[*answer, tokenizer().eos_token_id] for answer in answers]
    return answer_blocks(Padded.of(prompts), Padded.of(ends)).having(row=torch.arange(len(rows)))


def asked(rows: Sequence[dict[str, Any]]) -> Rows:
    """Rows to write after: `prompt`, `prompt_ids`, `answer`, `skills`, `difficulty`, `row`."""
    prompts = [row["prompt"] for row in rows]
    return Rows(
        {
            "prompt": prompts,
            "prompt_ids": tokenizer()(prompts)["input_ids"],
            "answer": [row["answer"] for row in rows],
            "skills": [tuple(row["tags"]) for row in rows],
            "difficulty": torch.tensor([row["difficulty"] for row in rows]),
            "row": torch.arange(len(rows)),
        }
    )


def fresh(seed: int, difficulty: int, count: int = 200) -> Rows:
    """Fresh questions, as `asked` gives them."""
    return asked(items(difficulty, count, TESTED + seed))


def rates(
    model: CausalLM, seed: int, *, difficulties: Sequence[int] = DIFFICULTIES, count: int = 200
) -> dict[int, float]:
    """How much of each difficulty's fresh questions is answered rightly by what is likeliest."""
    found = {}
    for difficulty in difficulties:
        test, dice = fresh(seed, difficulty, count), torch.Generator()
        with uncounted():
            written = write(model, test["prompt_ids"], dice, tokens=TOKENS, how=Sampling(temperature=0.0), rows=count)
        said = [answer(text, ANSWER) for text in spoken(model, written)]
        found[difficulty] = sum(each == right for each, right in zip(said, test["answer"], strict=True)) / count
    return found


def judge() -> Transform:
    """Whether the answer of a solution is right."""
    return verified(marker=ANSWER)


def base(seed: int, mistaken: Mapping[str, float] = MappingProxyType(MISTAKEN), updates: int = WRONG) -> CausalLM:
    """A model that errs; `updates`: how many taught it that a part `mistaken` of each operation is a sum."""
    return copy.deepcopy(_base(seed, tuple(mistaken.items()), updates))


@cache
def _base(seed: int, mistaken: tuple[tuple[str, float], ...], updates: int) -> CausalLM:
    dice, rows = random.Random(f"taught {seed}"), _taught(seed)
    wrong = blocks(rows, [solution(values(row["prompt"], dice, dict(mistaken))) for row in rows])
    return taught(right(seed), wrong, Training(updates, BATCH, LR / 3, seed=seed, log_every=updates))


def right(seed: int) -> CausalLM:
    """A model that was taught right solutions alone."""
    return copy.deepcopy(_right(seed))


@cache
def _right(seed: int) -> CausalLM:
    model = llama.llama(tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    return taught(model, blocks(_taught(seed)), Training(RIGHT, BATCH, LR, knobs=ADAM, seed=seed, log_every=RIGHT))


def _taught(seed: int) -> list[dict[str, Any]]:
    return [row for difficulty in DIFFICULTIES for row in items(difficulty, TAUGHT, seed)]


def lesson(seed: int, difficulties: Sequence[int], each: int, *, shown: Sequence[int] | None = None) -> Lesson:
    """Questions, so many of each difficulty, and a demonstration of each; `shown`: of those difficulties alone."""
    rows = [row for difficulty in difficulties for row in items(difficulty, each, LEARNED + seed)]
    questions, demonstrations = asked(rows), blocks(rows)
    if shown is not None:
        demonstrations = demonstrations.where(torch.isin(questions["difficulty"], torch.tensor(shown)))
    demonstrations = demonstrations.having(item=demonstrations["row"], row=torch.arange(demonstrations.count))
    return Lesson(questions, judge(), ASKING, shown=demonstrations or None)


def workshop(
    seed: int,
    difficulties: Sequence[int],
    each: int,
    steps: int,
    meter: Meter | None = None,
    *,
    batch: int = 128,
    lr: float = 1e-3,
    shown: Sequence[int] | None = None,
) -> Workshop:
    """The base, and what it is to learn from, in so many updates."""
    training = Training(steps, batch, lr, seed=seed, log_every=10)
    return Workshop(base(seed), lesson(seed, difficulties, each, shown=shown), training, InMemory(meter))


@cache
def tokenizer() -> Any:
    """One token a word and a digit."""
    words = [*OPERATIONS, *map(str, range(10)), STEP, ANSWER, NOTHING, "to"]
    return llama.bpe([f" {word}" for word in words] * 10, 512)
