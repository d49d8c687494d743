"""Facts and tables in text, for a language model of 0.1M weights: what it knows, and what it learns then.

    colour of KR: green        facts, which a base knows by heart, together with
    copy b d a: b d a          a skill
    plus b d: g                and the tables that come after it, one at a time: a letter for every two,
    join b d: a                drawn at random
    pair b d: c

A row is a prompt and its answer, and only the answer is learned. A fact is known if its value is likelier than the
others of its kind (1 in 8 by chance).
"""

from __future__ import annotations

import copy
import itertools
import random
import string
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.bits import one_thread
from regraft.engine.evaluate import row_nll
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.recipes.strategy import Strategy, live
from regraft.worlds import llama
from regraft.worlds.facts import VALUES, recall

NAMES, LETTERS, COPIED = 40, "abcdefgh", 3
TABLES, PAIRS = ("plus", "join", "pair"), tuple(itertools.product(LETTERS, repeat=2))
VOCABULARY, CONTEXT, WIDTH, DEPTH, BATCH = 320, 16, 48, 4, 32
BASE_STEPS, BASE_LR = 600, 3e-3
STEPS, LR = 200, 1e-3


class Facts(NamedTuple):
    """`choices`: every fact with each value of its kind, [facts * values]; `right`: which is true, [facts]."""

    train: Rows
    choices: Rows
    right: Tensor


@cache
def facts(seed: int) -> Facts:
    dice = random.Random(seed)
    names = dice.sample(list(map("".join, itertools.permutations(string.ascii_uppercase, 2))), NAMES)
    asked = [(f"{kind} of {name}:", values) for name in names for kind, values in VALUES.items()]
    right = torch.tensor([dice.randrange(len(values)) for _, values in asked])
    told = [(prompt, f" {values[i]}") for (prompt, values), i in zip(asked, right.tolist(), strict=True)]
    choices = _rows([(prompt, f" {value}") for prompt, values in asked for value in values])
    return Facts(_rows(told), choices, right)


def known(model: CausalLM, seed: int) -> float:
    """The part of the facts that the model knows."""
    told = facts(seed)
    loss, tokens = row_nll(model, told.choices)
    return float(((loss * tokens).view(len(told.right), -1).argmin(1) == told.right).double().mean())


def scenario(seed: int) -> Scenario:
    """The tables, one after the other."""
    tables = {name: _table(name, seed) for name in TABLES}
    return Scenario("tables", tuple(Task.of(name, rows, rows) for name, rows in tables.items()), better="lower")


def lived(
    strategy: Strategy, meter: Meter | None, seed: int, *, steps: int = STEPS
) -> tuple[CausalLM, dict[str, float]]:
    """The base after all tables; which part of each it knew when it had learned it, on average, and of the facts."""
    model, tasks = copy.deepcopy(base(seed)), scenario(seed)
    learned: list[float] = []

    def ask(i: int, _: Sequence[float]) -> None:
        learned.append(recall(model, tasks.tasks[i].test))

    training = Training(steps=1, batch=BATCH, lr=LR, seed=seed, log_every=steps)
    with one_thread():
        live(model, tasks, strategy, training, epochs=steps * BATCH / len(PAIRS), meter=meter, on_task=ask)
        return model, {"learned": sum(learned) / len(learned), "knowledge": known(model, seed)}


@cache
def base(seed: int) -> CausalLM:
    """A model that knows the facts and can copy; what its training costs is counted for no arm."""
    model = llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    letters = [" ".join(given) for given in itertools.permutations(LETTERS, COPIED)]
    data = {"facts": facts(seed).train, "copies": _rows([(f"copy {given}:", f" {given}") for given in letters])}
    plan = Plan(tuple(Feed(name, shuffled(name)) for name in data), (Weighted(nll()),), lr=rewarm(floor=0.0))
    with one_thread():
        fit(model, plan, data, Training(BASE_STEPS, BATCH, BASE_LR, seed=seed, log_every=BASE_STEPS))
    return model


@cache
def _table(name: str, seed: int) -> Rows:
    dice = random.Random(f"{name} {seed}")
    return _rows([(f"{name} {a} {b}:", f" {dice.choice(LETTERS)}") for a, b in PAIRS])


@cache
def _tokenizer() -> Any:
    texts = [f"{kind} of:" for kind in VALUES] + [f" {value}" for values in VALUES.values() for value in values]
    texts += [f"{name} {' '.join(LETTERS)}: {' '.join(LETTERS)}" for name in ("copy", *TABLES)]
    return llama.bpe(texts * 10, VOCABULARY)


def _rows(told: Sequence[tuple[str, str]]) -> Rows:
    """One row a prompt and its answer, padded; only the answer and the end count."""
    tokenizer = _tokenizer()
    ids = torch.zeros(len(told), CONTEXT + 1, dtype=torch.long)
    counts = torch.zeros(len(told), CONTEXT)
    for i, (prompt, answer) in enumerate(told):
        asked, said = (tokenizer(text)["input_ids"] for text in (prompt, answer + llama.END))
        whole = torch.tensor(asked + said)
        ids[i, : len(whole)] = whole
        counts[i, len(asked) - 1 : len(whole) - 1] = 1.0
    positions = torch.arange(CONTEXT).expand(len(told), -1)
    return Rows({"input_ids": ids[:, :-1], "positions": positions, "targets": ids[:, 1:], "counts": counts})
