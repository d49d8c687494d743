"""Facts and skills in text, for a language model of 0.1M weights: what it knows, and what it learns then.

    colour of KR: green        facts, which a base knows by heart, together with
    copy b d a: b d a          one skill
    sort b d a: a b d          and the skills that come after it, one at a time
    reverse b d a: a d b
    rotate b d a: d a b

A row is a prompt and its answer, and only the answer is learned. A fact is known if its value is likelier than the
others of its kind (1 in 8 by chance). A skill is asked for letters that no training had, and all of them must be right.
"""

from __future__ import annotations

import copy
import itertools
import random
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.bits import one_thread
from regraft.engine.evaluate import row_nll
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds import llama
from regraft.worlds.facts import VALUES

NAMES, LETTERS, LENGTH, HELD_OUT = 40, "abcdefgh", 3, 0.2
VOCABULARY, CONTEXT, WIDTH, DEPTH = 320, 16, 48, 4
SKILLS: Mapping[str, Callable[[Sequence[str]], Sequence[str]]] = {
    "copy": lambda letters: letters,
    "sort": sorted,
    "reverse": lambda letters: letters[::-1],
    "rotate": lambda letters: [*letters[1:], letters[0]],
}
BASE_SKILL, *NEW_SKILLS = SKILLS
BASE_STEPS, BASE_LR, BATCH = 600, 3e-3, 32


class Learned(NamedTuple):
    """What is learned from, and what is asked."""

    train: Rows
    asked: Rows


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
    nll, tokens = row_nll(model, told.choices)
    return float(((nll * tokens).view(len(told.right), -1).argmin(1) == told.right).double().mean())


@cache
def skill(name: str, seed: int) -> Learned:
    letters = list(itertools.permutations(LETTERS, LENGTH))
    random.Random(seed).shuffle(letters)
    told = [(f"{name} {' '.join(given)}:", f" {' '.join(SKILLS[name](given))}") for given in letters]
    held = round(HELD_OUT * len(told))
    return Learned(_rows(told[held:]), _rows(told[:held]))


def base(seed: int) -> CausalLM:
    """A model that knows the facts and the first skill; what its training costs is counted for no arm."""
    return copy.deepcopy(_base(seed))


def scenario(seed: int) -> Scenario:
    """The new skills, one after the other."""
    learned = {name: skill(name, seed) for name in NEW_SKILLS}
    tasks = tuple(Task.of(name, rows.train, rows.asked) for name, rows in learned.items())
    return Scenario("skills", tasks, better="lower")


@cache
def _base(seed: int) -> CausalLM:
    model = llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    data = {"facts": facts(seed).train, "new": skill(BASE_SKILL, seed).train}
    plan = Plan(tuple(Feed(name, shuffled(name)) for name in data), (Weighted(nll()),), lr=rewarm(floor=0.0))
    with one_thread():
        fit(model, plan, data, Training(BASE_STEPS, BATCH, BASE_LR, seed=seed, log_every=BASE_STEPS))
    return model


@cache
def _tokenizer() -> Any:
    texts = [f"{kind} of:" for kind in VALUES] + [f" {value}" for values in VALUES.values() for value in values]
    texts += [f"{name} {' '.join(LETTERS)}: {' '.join(LETTERS)}" for name in SKILLS]
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
