"""Chains of arithmetic (`regraft.worlds.chains`) whose solutions begin with notes, which often hold two idle digits.

    question    add 3 most 2 take 1 . . . . . . to 7 ;
    solution    . . ; 0 ; 2 ; 1 ; so 1          a detour:   4 9 ; 0 ; 2 ; 1 ; so 1

The digits say nothing of the question, and the base errs more after them: an answer with a detour is seldomer right.
But one right solution has a hundred with a detour, so most of the different right answers to a question have one.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import uncounted
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import tried
from regraft.recipes.answered import still
from regraft.recipes.repairing import InMemory, Lesson, Workshop
from regraft.worlds import chains, llama
from regraft.worlds.taught import taught

BATCH, LR = 128, 3e-4
PLAIN = f" {chains.NOTHING} {chains.NOTHING} {chains.STEP}"
MISTAKEN, AFTER = {"take": 0.5, "most": 0.5}, {"take": 0.8, "most": 0.8}
"""How much of an operation the base was taught as a sum: without a detour, and after one."""
ASKING = chains.ASKING._replace(tokens=chains.TOKENS + len(PLAIN.split()))


def detour(dice: random.Random) -> str:
    return f" {dice.randrange(10)} {dice.randrange(10)} {chains.STEP}"


def solutions(rows: Sequence[Mapping[str, Any]], rate: float, seed: int, *, mistaken: bool = False) -> list[str]:
    """A solution of each question, a part `rate` of them with a detour; right, or `mistaken`."""
    dice = random.Random(f"detours {seed}")
    found = []
    for row in rows:
        begins = detour(dice) if dice.random() < rate else PLAIN
        slips = {} if not mistaken else MISTAKEN if begins == PLAIN else AFTER
        found.append(begins + chains.solution(chains.values(row["prompt"], dice, slips)))
    return found


def base(seed: int, rate: float) -> CausalLM:
    """A model that errs, and more after a detour, as which a part `rate` of what it was taught begins."""
    return copy.deepcopy(_base(seed, rate))


@cache
def _base(seed: int, rate: float) -> CausalLM:
    rows = [row for difficulty in chains.DIFFICULTIES for row in chains.items(difficulty, chains.TAUGHT, seed)]
    model = llama.llama(chains.tokenizer(), width=chains.WIDTH, depth=chains.DEPTH, context=chains.CONTEXT, seed=seed)
    for updates, lr, mistaken in ((chains.RIGHT, chains.LR, False), (chains.WRONG, chains.LR / 3, True)):
        blocks = chains.blocks(rows, solutions(rows, rate, seed, mistaken=mistaken))
        taught(model, blocks, Training(updates, chains.BATCH, lr, knobs=chains.ADAM, seed=seed, log_every=updates))
    return model


def lesson(seed: int, difficulties: Sequence[int], each: int, rate: float) -> Lesson:
    """Questions, so many of each difficulty, and a right demonstration of each, a part `rate` of them with a detour."""
    rows = [row for difficulty in difficulties for row in chains.items(difficulty, each, chains.LEARNED + seed)]
    shown = chains.blocks(rows, solutions(rows, rate, chains.LEARNED + seed))
    return Lesson(chains.asked(rows), chains.judge(), ASKING, shown=shown.having(item=shown["row"]))


def repaired(
    how: Callable[[Workshop], None], model: CausalLM, lesson: Lesson, steps: int, seed: int, meter: Meter | None = None
) -> InMemory:
    """Repairs the model, in place, in so many updates."""
    doer = InMemory(meter)
    with one_thread():
        how(Workshop(model, lesson, Training(steps, BATCH, LR, seed=seed, log_every=10), doer))
    return doer


def scores(model: CausalLM, seed: int, difficulties: Sequence[int], count: int = 200) -> dict[str, float]:
    """Of fresh questions, in percent: how many are answered rightly by what is `likeliest`, how many of the answers
    that are `drawn` are right, and how many of those begin with a `detour`."""
    items = Rows.join(chains.fresh(seed, difficulty, count) for difficulty in difficulties)
    found = {}
    for name, how in (("likeliest", Sampling(0.0)), ("drawn", Sampling())):
        asking = ASKING._replace(copies=1 if name == "likeliest" else 4, how=how)
        with one_thread(), uncounted():
            answers = tried(model, items, chains.judge(), asking, still(model, torch.Generator().manual_seed(seed)))
        found[name] = 100 * float(answers.rewards.mean())
    begun = [text.split()[:1] != [chains.NOTHING] for text in answers.rows["written"]]
    return {**found, "detours": 100 * sum(begun) / len(begun)}
