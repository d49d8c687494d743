"""Answers that two proxies praise, each up to a point, for a language model of 22,000 weights.

    about pear : and so it please then        a prompt names a topic; an answer is words, of which some are courteous

    R_length = words / 16        R_courtesy = courteous words / 16
    quality  = 1 - sum_i ((R_i - theta_i) / width)²

The quality of an answer is concave in both; past the point theta_i more of R_i is worse. Courteous words are words, so
the proxies go together. The base says few words, and seldom courteous ones.
"""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import torch

from regraft.core.define import transform
from regraft.core.parts import Context, Transform
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted
from regraft.numerics.trying import Asking, tried
from regraft.worlds import llama
from regraft.worlds.offline import context
from regraft.worlds.taught import taught

LONGEST = 16
POINTS = (("length", 0.4), ("courtesy", 0.25))
WIDTH = 0.8
TOPICS = ("apple", "bread", "cloud", "drum", "eagle", "field", "glass", "house")
WORDS = ("and", "so", "it", "was", "there", "again", "but", "then")
COURTEOUS = ("please", "thanks")
SAID = 0.15
"""The part of the words in the base's text that are courteous."""
TAUGHT, STEPS, BATCH, LR = 2000, 150, 64, 5e-3
TESTED = 50


@transform
def length(rows: Rows, ctx: Context) -> Rows:
    return rows.having(reward=torch.tensor([len(text.split()) for text in rows["written"]]) / LONGEST)


@transform
def courtesy(rows: Rows, ctx: Context) -> Rows:
    said = [sum(word in COURTEOUS for word in text.split()) for text in rows["written"]]
    return rows.having(reward=torch.tensor(said) / LONGEST)


@transform
def quality(rows: Rows, ctx: Context) -> Rows:
    """What nobody optimises."""
    lost = torch.zeros(rows.count)
    for (_, theta), proxy in zip(POINTS, (length(), courtesy()), strict=True):
        lost = lost + ((proxy(rows, ctx)["reward"] - theta) / WIDTH).square()
    return rows.having(reward=1 - lost)


@transform
def below(rows: Rows, ctx: Context, *, by: Transform, point: float) -> Rows:
    """A reward that is 0 past its point (PPO-SAT)."""
    rows = by(rows, ctx)
    return rows.having(reward=rows["reward"].masked_fill(rows["reward"] > point, 0.0))


def prompts(count: int, seed: int) -> Rows:
    """Rows to write after: `prompt`, `prompt_ids`, `row`."""
    dice = random.Random(f"prompts {seed}")
    said = [f"about {dice.choice(TOPICS)} :" for _ in range(count)]
    return Rows({"prompt": said, "prompt_ids": tokenizer()(said)["input_ids"], "row": torch.arange(count)})


def asking(copies: int) -> Asking:
    return Asking(copies=copies, tokens=LONGEST, at_once=1024)


def means(model: CausalLM, seed: int) -> dict[str, float]:
    """The mean quality of fresh answers, and of the proxies."""
    ctx = context()
    with one_thread(), uncounted():
        dice = torch.Generator().manual_seed(TESTED + seed)
        rows = tried(model, prompts(64, TESTED + seed), quality(), asking(16), ctx, dice=dice).rows
    scored = {"quality": quality(), "length": length(), "courtesy": courtesy()}
    return {name: float(by(rows, ctx)["reward"].mean()) for name, by in scored.items()}


def base(seed: int) -> CausalLM:
    """A model that writes short answers, of which few words are courteous."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    model = llama.llama(tokenizer(), width=32, depth=1, heads=2, context=32, seed=seed)
    dice = random.Random(f"answers {seed}")
    shown = prompts(TAUGHT, seed)
    answers = [_answer(dice) for _ in range(TAUGHT)]
    ids = [[*each, tokenizer().eos_token_id] for each in tokenizer()(answers)["input_ids"]]
    rows = answer_blocks(Padded.of(shown["prompt_ids"]), Padded.of(ids)).having(row=torch.arange(TAUGHT))
    return taught(model, rows, Training(STEPS, BATCH, LR, seed=seed, log_every=STEPS))


def _answer(dice: random.Random) -> str:
    words = [dice.choice(COURTEOUS if dice.random() < SAID else WORDS) for _ in range(dice.randint(1, 9))]
    return "".join(f" {word}" for word in words)


@cache
def tokenizer() -> Any:
    """One token a word."""
    return llama.bpe(["about", " :", *(f" {word}" for word in (*TOPICS, *WORDS, *COURTEOUS))] * 10, 512)
