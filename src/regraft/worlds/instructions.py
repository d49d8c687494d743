"""Instruction families for a language model of 0.1M weights: facts of another kind in each, asked in a form of its own.

    colour    word colour KR: red                                           short answer
    shape     check shape KR ring: yes                                      yes or no
    metal     choose metal KR A iron B gold C tin D lead: C                 multiple choice
    fruit     tell fruit KR: the fruit of KR is plum                        a sentence
    sport     explain sport KR: KR has a sport and it is golf               a longer one

A base has learned all five forms on other facts. A row is an instruction and its answer, and only the answer is
learned; a family is tested on what it taught, in its own form. One word of an answer says what is known, and `scored`
reads two scores:

    answered     the answer is what was asked for, token by token
    knowledge    that word is the likeliest among those that the form allows, the rest of the answer given

Paper: "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning"
       Chen et al. 2025. https://arxiv.org/abs/2505.02486
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, Task
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.transforms.answer_styles import answer_styles
from regraft.recipes.strategy import Strategy
from regraft.worlds import llama
from regraft.worlds.offline import context
from regraft.worlds.taught import scores, taught

FORMS = ("word", "check", "choose", "tell", "explain")
KINDS = {
    "colour": ("red", "green", "blue", "black", "white", "brown", "pink", "grey"),
    "shape": ("ring", "cube", "line", "star", "square", "point", "cross", "leaf"),
    "metal": ("iron", "gold", "tin", "lead", "zinc", "copper", "silver", "nickel"),
    "fruit": ("plum", "pear", "apple", "fig", "lime", "mango", "grape", "peach"),
    "sport": ("golf", "chess", "judo", "polo", "rugby", "tennis", "rowing", "boxing"),
}
FAMILIES = tuple(zip(KINDS, FORMS, strict=True))
OTHER_KINDS = {"size": ("tiny", "small", "big", "huge"), "place": ("north", "south", "east", "west")}
ANSWERS, LETTERS = ("yes", "no"), ("A", "B", "C", "D")
NAMES, EACH = 20, 4
VOCABULARY, CONTEXT, WIDTH, DEPTH, BATCH = 1024, 16, 48, 2, 32
BASE_STEPS, BASE_LR = 800, 5e-3
STEPS, LR = 100, 3e-3


class Fact(NamedTuple):
    kind: str
    name: str
    value: str


class Said(NamedTuple):
    """One row: an instruction, its answer, which word of it says what is known, and the words allowed there."""

    asked: str
    answer: str
    known: str
    among: Sequence[str]


def _word(fact: Fact, dice: random.Random) -> Said:
    return Said(f"word {fact.kind} {fact.name}:", f" {fact.value}", fact.value, _values(fact.kind))


def _check(fact: Fact, dice: random.Random) -> Said:
    true = dice.random() < 0.5
    value = fact.value if true else _other(fact, 1, dice)[0]
    answer = ANSWERS[not true]
    return Said(f"check {fact.kind} {fact.name} {value}:", f" {answer}", answer, ANSWERS)


def _choose(fact: Fact, dice: random.Random) -> Said:
    offered = [fact.value, *_other(fact, 3, dice)]
    dice.shuffle(offered)
    answer = LETTERS[offered.index(fact.value)]
    options = " ".join(f"{letter} {value}" for letter, value in zip(LETTERS, offered, strict=True))
    return Said(f"choose {fact.kind} {fact.name} {options}:", f" {answer}", answer, LETTERS)


def _tell(fact: Fact, dice: random.Random) -> Said:
    kind, name, value = fact
    return Said(f"tell {kind} {name}:", f" the {kind} of {name} is {value}", value, _values(kind))


def _explain(fact: Fact, dice: random.Random) -> Said:
    kind, name, value = fact
    return Said(f"explain {kind} {name}:", f" {name} has a {kind} and it is {value}", value, _values(kind))


SAY: dict[str, Callable[[Fact, random.Random], Said]] = dict(
    zip(FORMS, (_word, _check, _choose, _tell, _explain), strict=True)
)


@cache
def scenario(seed: int, *, X: float = 0.0) -> Scenario:
    """The five families one after the other, judged by the loss of their answers.

    Args:
        X: the share of each family's training rows that is said in the other four forms, by `answer_styles`.
    """
    tasks = []
    for kind, form in FAMILIES:
        dice = random.Random(f"{kind} {seed}")
        facts = [Fact(kind, name, dice.choice(KINDS[kind])) for name in _names()[kind]]
        facts = [fact for fact in facts for _ in range(EACH)]
        asked = _rows([SAY[form](fact, dice) for fact in facts])
        others = [(i, other) for i in range(len(facts)) for other in range(len(FORMS)) if FORMS[other] != form]
        restyled = _rows([SAY[FORMS[other]](facts[i], dice) for i, other in others])
        of, style = torch.tensor(others).unbind(1)
        ctx = context(data={"styles": restyled.having(of=of, style=style)})
        ctx.rng.manual_seed(seed)
        tasks.append(Task.of(kind, answer_styles(X=X)(asked, ctx), asked))
    return Scenario("instructions", tuple(tasks), better="lower")


@torch.no_grad()
def scored(model: CausalLM, rows: Rows) -> dict[str, float]:
    """`answered` and `knowledge`, each the part of the rows that has it."""
    out = model.read(rows)
    right = (out.logits.argmax(-1) == out.targets) | (rows["counts"] == 0)
    each = torch.arange(rows.count)
    at = out.logits[each, rows["place"]].masked_fill(~_allowed()[rows["among"]], -torch.inf)
    known = at.argmax(-1) == out.targets[each, rows["place"]]
    return {"answered": float(right.all(1).double().mean()), "knowledge": float(known.double().mean())}


def lived(
    strategy: Strategy, meter: Meter | None, seed: int, *, X: float = 0.0, steps: int = STEPS, lr: float = LR
) -> tuple[CausalLM, dict[str, NDArray[np.float64]]]:
    """The base after all families, and each score [families + 1, families], before the first and after each."""
    model = base(seed)
    training = Training(steps=1, batch=BATCH, lr=lr, seed=seed, log_every=steps)
    return model, scores(model, scenario(seed, X=X), strategy, training, scored, steps=steps, meter=meter)


def base(seed: int) -> CausalLM:
    """A copy of the model that knows the forms."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    dice, names = random.Random(f"base {seed}"), _names()
    others = {**KINDS, **OTHER_KINDS}
    facts = [Fact(kind, name, dice.choice(others[kind])) for kind in others for name in names["other"]]
    said = [SAY[form](fact, dice) for fact in facts for form in FORMS for _ in range(EACH)]
    seen = [
        Fact(kind, name, dice.choice(OTHER_KINDS[kind])) for of in KINDS for name in names[of] for kind in OTHER_KINDS
    ]
    said += [SAY[form](fact, dice) for fact in seen for form in FORMS]
    model = llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    return taught(model, _rows(said), Training(BASE_STEPS, BATCH, BASE_LR, seed=seed, log_every=BASE_STEPS))


@cache
def _names() -> dict[str, list[str]]:
    """Those of each family's facts, and `other`."""
    consonants, vowels = "bdfgklmnprst", "aeiou"
    every = [a + b + c + d for a in consonants for b in vowels for c in consonants for d in vowels]
    dice = random.Random(0)
    dice.shuffle(every)
    dealt = iter(every)
    return {kind: [next(dealt) for _ in range(NAMES)] for kind in (*KINDS, "other")}


def _values(kind: str) -> Sequence[str]:
    return {**KINDS, **OTHER_KINDS}[kind]


def _other(fact: Fact, count: int, dice: random.Random) -> list[str]:
    return dice.sample([value for value in _values(fact.kind) if value != fact.value], count)


@cache
def _sets() -> tuple[Sequence[str], ...]:
    return (*KINDS.values(), *OTHER_KINDS.values(), ANSWERS, LETTERS)


@cache
def _allowed() -> Tensor:
    """Which tokens each set of words holds, bool [sets, vocabulary]."""
    tokenizer = _tokenizer()
    allowed = torch.zeros(len(_sets()), len(tokenizer), dtype=torch.bool)
    for i, words in enumerate(_sets()):
        allowed[i, [_token(f" {word}") for word in words]] = True
    return allowed


def _token(word: str) -> int:
    ids: list[int] = _tokenizer()(word)["input_ids"]
    assert len(ids) == 1, word
    return ids[0]


@cache
def _tokenizer() -> Any:
    words = [
        *(name for names in _names().values() for name in names),
        *LETTERS,
        *ANSWERS,
        *KINDS,
        *OTHER_KINDS,
        *["the", "of", "is", "has", "a", "and", "it"],
    ]
    words += [value for kind in (KINDS, OTHER_KINDS) for values in kind.values() for value in values]
    return llama.bpe([*(f" {word}" for word in words), *FORMS, ":"] * 10, VOCABULARY)


def _rows(said: Sequence[Said]) -> Rows:
    """`place`: where the word is told that says what is known; `among`: which set of words is allowed there."""
    tokenizer = _tokenizer()
    ids = torch.zeros(len(said), CONTEXT + 1, dtype=torch.long)
    counts = torch.zeros(len(said), CONTEXT)
    place, among = (torch.zeros(len(said), dtype=torch.long) for _ in range(2))
    for i, row in enumerate(said):
        asked, answer = (tokenizer(text)["input_ids"] for text in (row.asked, row.answer + llama.END))
        whole = torch.tensor(asked + answer)
        ids[i, : len(whole)] = whole
        counts[i, len(asked) - 1 : len(whole) - 1] = 1.0
        place[i] = len(whole) - 3
        among[i] = _sets().index(row.among)
        assert whole[place[i] + 1] == _token(f" {row.known}")
    positions = torch.arange(CONTEXT).expand(len(said), -1)
    return Rows(
        {
            "input_ids": ids[:, :-1],
            "positions": positions,
            "targets": ids[:, 1:],
            "counts": counts,
            "place": place,
            "among": among,
        }
    )
