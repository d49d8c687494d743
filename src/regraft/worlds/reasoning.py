"""Arithmetic in steps for a language model of 0.1M weights: four operations, learned one after the other.

    add 3 4 2 2 1: 2 4 1 = 2       each number is put to the result so far by the operation, modulo 5; what comes
    take 3 4 2 2 1: 4 2 0 = 4      before the last result are the steps, the last is the answer
    times 3 4 2 2 1: 2 4 3 = 3
    most 3 4 2 2 1: 4 4 4 = 4

A base has learned all four at once. A version writes steps and answer by itself; `steps` is the part of the steps that
are right, `answers` the part of the answers.

Paper: "MLLM-CBench:A Comprehensive Benchmark for Continual Instruction Tuning of Multimodal LLMs with Chain-of-Thought
       Reasoning Analysis" Guo et al. 2025. https://arxiv.org/abs/2508.08275
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.recipes.strategy import Strategy
from regraft.worlds import llama
from regraft.worlds.taught import scores, taught

DIGITS, NUMBERS, TRAIN, TEST = 5, 5, 2000, 200
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: (a + b) % DIGITS,
    "take": lambda a, b: (a - b) % DIGITS,
    "times": lambda a, b: (a * b) % DIGITS,
    "most": torch.maximum,
}
WIDTH, DEPTH, BATCH = 48, 2, 32
BASE_STEPS, BASE_LR = 1000, 5e-3
STEPS, LR = 150, 2e-3


@cache
def scenario(seed: int) -> Scenario:
    """The four operations, judged by the loss of steps and answers."""
    tasks = [Task.of(name, *_split(name, seed)) for name in OPERATIONS]
    return Scenario("reasoning", tuple(tasks), better="lower")


@torch.no_grad()
def scored(model: CausalLM, rows: Rows) -> dict[str, float]:
    """`answers` and `steps`, as the model writes them."""
    true = torch.cat([rows["input_ids"], rows["targets"][:, -1:]], 1)
    written, begin = true.clone(), true.shape[1] - NUMBERS
    for at in range(begin, true.shape[1]):
        written[:, at] = model.read(rows.having(input_ids=written[:, :-1])).logits[:, at - 1].argmax(-1)
    right = (written == true)[:, begin:].double()
    steps, answer = right[:, : NUMBERS - 2], right[:, -1]
    return {"answers": float(answer.mean()), "steps": float(steps.mean())}


def lived(strategy: Strategy, meter: Meter | None, seed: int) -> dict[str, NDArray[np.float64]]:
    """Both scores [operations + 1, operations], before the first and after each."""
    training = Training(steps=1, batch=BATCH, lr=LR, seed=seed, log_every=STEPS)
    return scores(copy.deepcopy(base(seed)), scenario(seed), strategy, training, scored, steps=STEPS, meter=meter)


@cache
def base(seed: int) -> CausalLM:
    model = llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=2 * NUMBERS + 2, seed=seed)
    rows = Rows.join(_split(name, seed)[0] for name in OPERATIONS)
    return taught(model, rows, Training(BASE_STEPS, BATCH, BASE_LR, seed=seed, log_every=BASE_STEPS))


@cache
def _tokenizer() -> Any:
    return llama.bpe([*OPERATIONS, *(f" {digit}" for digit in range(DIGITS)), " =", ":"] * 10, 512)


@cache
def _split(name: str, seed: int) -> tuple[Rows, Rows]:
    """Rows to learn and to be tested on, no prompt in both."""
    dice = torch.Generator().manual_seed(10 * seed + list(OPERATIONS).index(name))
    drawn = torch.randperm(DIGITS**NUMBERS, generator=dice)[: TRAIN + TEST]
    numbers = drawn[:, None] // DIGITS ** torch.arange(NUMBERS) % DIGITS
    results = [numbers[:, 0]]
    for i in range(1, NUMBERS):
        results.append(OPERATIONS[name](results[-1], numbers[:, i]))
    tag, colon, equals = (_token(text) for text in (name, ":", " ="))
    digits = torch.tensor([_token(f" {digit}") for digit in range(DIGITS)])

    def all_rows(token: int) -> Tensor:
        return torch.full((len(drawn), 1), token)

    steps, answer = digits[torch.stack(results[1:-1], 1)], digits[results[-1]][:, None]
    ids = torch.cat([all_rows(tag), digits[numbers], all_rows(colon), steps, all_rows(equals), answer], 1)
    counts = torch.zeros(len(drawn), ids.shape[1] - 1)
    counts[:, NUMBERS + 1 :] = 1.0
    rows = Rows(
        {
            "input_ids": ids[:, :-1],
            "positions": torch.arange(ids.shape[1] - 1).expand(len(drawn), -1),
            "targets": ids[:, 1:],
            "counts": counts,
        }
    )
    return rows.take(slice(0, TRAIN)), rows.take(slice(TRAIN, None))


def _token(text: str) -> int:
    (token,) = _tokenizer()(text)["input_ids"]
    return int(token)
