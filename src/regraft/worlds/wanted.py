"""Texts in which a wanted letter is counted, for a language model of 0.02M weights.

    question    want c : f a d b            a letter that is wanted, and the text so far
    answer      b e a c c f d a             eight letters, always

The base goes on with the text, in which a letter often follows the one before it in the alphabet, and heeds the want
now and then. The reward is how often the wanted letter comes, and, as the scores of reward models do, a number that
differs from question to question and that no answer changes: from 0 to 7, for the first letter of the text.
"""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import torch

from regraft.core.define import transform
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted, write
from regraft.numerics.trying import Asking, spoken
from regraft.recipes.repairing import InMemory, Lesson, Workshop
from regraft.worlds import llama
from regraft.worlds.taught import taught

LETTERS = "abcdefgh"
BEFORE, LENGTH = 4, 8
LIKELY, HEEDED = 0.3, 0.25
"""How often the base is shown the next letter of the alphabet, and the wanted one; else any letter."""
WIDTH, DEPTH, CONTEXT = 32, 1, 32
TAUGHT, STEPS, BATCH, LR = 4000, 1000, 64, 4e-3
ASKED, TESTED = 1000, 1000


def items(count: int, seed: int) -> Rows:
    """Questions: `prompt`, `prompt_ids`, `wanted`, `level`, `skills`, `answer`, `row`."""
    dice = random.Random(f"wanted {seed}")
    wanted, texts = dice.choices(LETTERS, k=count), [_text(dice, BEFORE) for _ in range(count)]
    prompts = [f" want {letter} :{_spaced(text)}" for letter, text in zip(wanted, texts, strict=True)]
    return Rows(
        {
            "prompt": prompts,
            "prompt_ids": tokenizer()(prompts)["input_ids"],
            "wanted": wanted,
            "level": torch.tensor([float(LETTERS.index(text[0])) for text in texts]),
            "skills": [(f"want {letter}",) for letter in wanted],
            "answer": [""] * count,
            "row": torch.arange(count),
        }
    )


@transform
def counted(rows: Rows, ctx: Context, *, levels: bool = True) -> Rows:
    """The reward: how often the wanted letter comes; `levels`: and the question's own number."""
    found = [float(text.count(letter)) for text, letter in zip(rows["written"], rows["wanted"], strict=True)]
    reward = torch.tensor(found)
    return rows.having(reward=reward + rows["level"] if levels else reward)


def share(model: CausalLM, seed: int, count: int = 500) -> float:
    """How many of the letters are the wanted one, in percent, in answers to fresh questions."""
    test = items(count, TESTED + seed)
    with uncounted():
        written = write(model, test["prompt_ids"], torch.Generator().manual_seed(seed), tokens=LENGTH, rows=count)
    judged = counted(levels=False)(test.having(written=spoken(model, written)), None)  # type: ignore[arg-type]
    return 100 * float(judged["reward"].mean()) / LENGTH


def workshop(seed: int, steps: int, batch: int, lr: float, meter: Meter | None = None) -> Workshop:
    """The base, and what it is asked, in so many updates."""
    lesson = Lesson(items(ASKED, seed), counted(), Asking(copies=1, tokens=LENGTH, at_once=4096))
    return Workshop(base(seed), lesson, Training(steps, batch, lr, seed=seed, log_every=10), InMemory(meter))


def base(seed: int) -> CausalLM:
    """A model that goes on with any text."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    model = llama.llama(tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    dice = random.Random(f"taught {seed}")
    wanted = dice.choices(LETTERS, k=TAUGHT)
    texts = [_text(dice, BEFORE + LENGTH, letter) for letter in wanted]
    prompts = [f" want {letter} :{_spaced(text[:BEFORE])}" for letter, text in zip(wanted, texts, strict=True)]
    after = [_spaced(text[BEFORE:]) for text in texts]
    ids = [Padded.of(tokenizer()(part)["input_ids"]) for part in (prompts, after)]
    rows = answer_blocks(*ids).having(row=torch.arange(TAUGHT))
    return taught(model, rows, Training(STEPS, BATCH, LR, seed=seed, log_every=STEPS))


def _text(dice: random.Random, length: int, wanted: str = "") -> str:
    """Letters; the wanted one, if there is one, comes after the first few."""
    text = dice.choice(LETTERS)
    while len(text) < length:
        drawn = dice.random()
        if wanted and len(text) >= BEFORE and drawn > 1 - HEEDED:
            text += wanted
        elif drawn < LIKELY:
            text += LETTERS[(LETTERS.index(text[-1]) + 1) % len(LETTERS)]
        else:
            text += dice.choice(LETTERS)
    return text


def _spaced(text: str) -> str:
    return "".join(f" {letter}" for letter in text)


@cache
def tokenizer() -> Any:
    """One token a word and a letter."""
    return llama.bpe([*(f" {letter}" for letter in LETTERS), " want", " :"] * 10, 512)
