"""Five domains of text in sequence, for a language model of 0.2M weights: what it loses of each as it reads the next.

    language reference · docstrings · library source · generated logs · generated arithmetic

Settings are chosen on other documents of the same domains, in the opposite order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.models.causal import CausalLM
from regraft.worlds import llama
from regraft.worlds.python_text import Document, docstrings, reference, sample, source

VOCABULARY, CONTEXT, WIDTH, DEPTH = 1024, 64, 64, 2
CHARACTERS, HELD = 150_000, 0.1
SERVICES, LEVELS = ("auth", "billing", "search", "mailer", "gateway"), ("INFO", "WARN", "ERROR", "DEBUG")
EVENTS = (
    "started job {n}",
    "user {n} signed in",
    "retry {k} of 5 after {n} ms",
    "cache miss on key {n}",
    "took {n} ms",
)


def logs(seed: int) -> Iterator[str]:
    """Documents of twenty lines of a service's log."""
    dice = random.Random(seed)
    while True:
        clock, service = dice.randrange(86_400), dice.choice(SERVICES)
        lines = []
        for _ in range(20):
            clock = (clock + dice.randrange(1, 90)) % 86_400
            said = dice.choice(EVENTS).format(n=dice.randrange(10_000), k=dice.randrange(1, 6))
            stamp = f"{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}"
            lines.append(f"2026-03-{dice.randrange(1, 29):02} {stamp} {service} {dice.choice(LEVELS)} {said}")
        yield "\n".join(lines)


def arithmetic(seed: int) -> Iterator[str]:
    """Documents of twenty sums and differences."""
    dice = random.Random(seed)
    while True:
        pairs = [(dice.randrange(100), dice.randrange(100)) for _ in range(20)]
        yield "\n".join(f"{a} + {b} = {a + b}" if a < b else f"{a} - {b} = {a - b}" for a, b in pairs)


def _cut(texts: Iterator[str], characters: int) -> list[str]:
    found, size = [], 0
    while size < characters:
        found.append(next(texts))
        size += len(found[-1])
    return found


def _halves(documents: Callable[[], list[Document]], tuning: bool) -> list[str]:
    """Documents to judge on, or others to tune on."""
    chosen = [d["text"] for d in sample(documents(), 2 * CHARACTERS)]
    return chosen[tuning::2]


DOMAINS: Mapping[str, Callable[[int, bool], list[str]]] = {
    "reference": lambda seed, tuning: _halves(reference, tuning),
    "docstrings": lambda seed, tuning: _halves(docstrings, tuning),
    "source": lambda seed, tuning: _halves(lambda: source("modules"), tuning),
    "logs": lambda seed, tuning: _cut(logs(seed + 1000 * tuning), CHARACTERS),
    "arithmetic": lambda seed, tuning: _cut(arithmetic(seed + 1000 * tuning), CHARACTERS),
}


@cache
def scenario(seed: int, *, tuning: bool = False) -> Scenario:
    """The five domains one after the other, judged by the loss on documents held out."""
    tasks = []
    for name, make in DOMAINS.items():
        texts = make(seed, tuning)
        random.Random(seed).shuffle(texts)
        held = max(1, round(HELD * len(texts)))
        tasks.append(
            Task.of(name, blocks(texts[held:], _tokenizer(), CONTEXT), blocks(texts[:held], _tokenizer(), CONTEXT))
        )
    return Scenario("text", tuple(reversed(tasks) if tuning else tasks), better="lower")


def network(tasks: Scenario, seed: int) -> CausalLM:
    return llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)


@cache
def _tokenizer() -> Any:
    return llama.bpe([text for make in DOMAINS.values() for text in make(0, True)], VOCABULARY)


def blocks(texts: Sequence[str], tokenizer: Any, context: int) -> Rows:
    """The documents one after the other, cut into blocks of so many tokens; positions restart at each document."""
    tokens = [torch.tensor(ids) for ids in tokenizer([f"{text}{llama.END}" for text in texts])["input_ids"]]
    ids, places = torch.cat(tokens), torch.cat([torch.arange(len(each)) for each in tokens])
    at = torch.arange((len(ids) - 1) // context)[:, None] * context + torch.arange(context)
    first = places[at] == 0
    since = torch.where(first, torch.arange(context), 0).cummax(1).values
    last = places[at + 1] == 0  # the next token begins another document
    return Rows(
        {
            "input_ids": ids[at],
            "positions": torch.arange(context) - since,
            "targets": ids[at + 1],
            "counts": (~last).float(),
        }
    )
