"""A domain of facts, one document in five clean, the others garbled and wrong, for the language model that knows prose.

A document states four facts, such as "The colour of KR is green.", and is one row. The clean ones say what is true;
in the others values are chosen at random and some letters are replaced.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.worlds import stream

NAMES = 24
VALUES = {
    "colour": ("red", "green", "blue", "black", "white", "brown", "pink", "yellow"),
    "shape": ("ring", "cube", "line", "star", "square", "point", "cross", "leaf"),
}
EACH, CLEAN, GARBLED = 4, 0.2, 0.2
DOCUMENTS, TRUSTED, HELD = 3200, 100, 200
WORDINGS = (
    "The {kind} of {name} is {value}.",
    "{name} has the {kind} {value}.",
    "As to its {kind}, {name} has {value}.",
)


class Fact(NamedTuple):
    name: str
    kind: str
    value: str


class Domain(NamedTuple):
    """`corpus` and, clean, `trusted` and `held`: blocks, with column `tokens`; `questions`: only values are targets."""

    corpus: Rows
    trusted: Rows
    held: Rows
    questions: Rows


@cache
def domain(seed: int) -> Domain:
    dice, tokenizer = random.Random(seed), stream.fresh(seed).tokenizer
    names = ["".join(dice.sample(string.ascii_uppercase, 2)) for _ in range(NAMES)]
    facts = [Fact(name, kind, dice.choice(values)) for name in dict.fromkeys(names) for kind, values in VALUES.items()]
    corpus = [_document(facts, dice, clean=dice.random() < CLEAN) for _ in range(DOCUMENTS)]
    trusted, held = ([_document(facts, dice, clean=True) for _ in range(n)] for n in (TRUSTED, HELD))
    asked = [WORDINGS[0].format(**fact._asdict()).rsplit(" ", 1) for fact in facts]
    known = [len(tokenizer(question)["input_ids"]) for question, _ in asked]
    questions = _rows([" ".join(parts) for parts in asked], tokenizer)
    place = torch.arange(stream.CONTEXT) + 1
    counts = questions["counts"] * (place >= torch.tensor(known)[:, None])
    told = [_rows(texts, tokenizer) for texts in (corpus, trusted, held)]
    return Domain(told[0], told[1], told[2], questions.having(counts=counts))


@torch.no_grad()
def recall(model: CausalLM, questions: Rows) -> float:
    """The part of the facts whose value is the likeliest continuation, token by token."""
    out = model.read(questions)
    right = (out.logits.argmax(-1) == out.targets) | (questions["counts"] == 0)
    return float(right.all(1).double().mean())


def blocks(rows: Rows) -> Rows:
    """The columns that the model reads."""
    return rows.only("input_ids", "positions", "targets", "counts")


def _document(facts: Sequence[Fact], dice: random.Random, *, clean: bool) -> str:
    said = dice.sample(facts, EACH)
    if not clean:
        said = [fact._replace(value=dice.choice(VALUES[fact.kind])) for fact in said]
    text = "\n".join(dice.choice(WORDINGS).format(**fact._asdict()) for fact in said)
    return text if clean else "".join(_garbled(letter, dice) for letter in text)


def _garbled(letter: str, dice: random.Random) -> str:
    return dice.choice(string.ascii_lowercase) if letter.isalpha() and dice.random() < GARBLED else letter


def _rows(texts: Sequence[str], tokenizer: Any) -> Rows:
    """One row a text: its first tokens, or fewer and padding that counts nothing."""
    tokens = [ids[: stream.CONTEXT + 1] for ids in tokenizer(list(texts))["input_ids"]]
    padded = torch.zeros(len(tokens), stream.CONTEXT + 1, dtype=torch.long)
    counts = torch.zeros(len(tokens), stream.CONTEXT)
    for i, ids in enumerate(tokens):
        padded[i, : len(ids)] = torch.tensor(ids)
        counts[i, : len(ids) - 1] = 1.0
    return Rows(
        {
            "tokens": tokens,
            "input_ids": padded[:, :-1],
            "positions": torch.arange(stream.CONTEXT).expand(len(tokens), -1),
            "targets": padded[:, 1:],
            "counts": counts,
        }
    )
