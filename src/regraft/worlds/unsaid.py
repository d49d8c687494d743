"""Arithmetic that does not say which operation is meant, for the model of `regraft.worlds.operations`.

    3 4 2 by 7 7 1 = 0 1 3

Of each question one operation is meant, drawn at random, so the answer that is likeliest is right less than half of the
time, and several tries find it. The model knows the operations; what it learns is which are meant, and how often.
"""

from __future__ import annotations

import random
from typing import Any

from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.numerics.token_loss import log_probs_of
from regraft.worlds import operations
from regraft.worlds.operations import OPERATIONS

MEANT = {"add": 0.4, "most": 0.2, "first": 0.15, "second": 0.1, "take": 0.1, "least": 0.05}
LEARNED = 500
"""The seed of what is learned, beside the run's own: tests are of other questions."""


def items(count: int, seed: int) -> list[dict[str, Any]]:
    """Questions, none twice: `prompt`, `answer`, `tags`, the operation that is meant."""
    dice = random.Random(f"unsaid {seed}")
    rows = []
    for row in operations.items("add", count, seed):
        _, _, asked = row["prompt"].partition(" ")
        a, b = ([int(digit) for digit in part.split()] for part in asked.rstrip("=").split("by"))
        (meant,) = dice.choices(tuple(MEANT), tuple(MEANT.values()))
        answer = "".join(f" {digit}" for digit in OPERATIONS[meant](a, b))
        rows.append({"prompt": f" {asked}", "answer": answer, "tags": [meant]})
    return rows


def solved(model: CausalLM, rows: Rows, tries: int) -> float:
    """How likely one of so many tries at a question gives its answer, whole, in percent: a mean over blocks."""
    p = log_probs_of(model, rows, chunk=512).double().sum(1).exp()
    return 100 * float((1 - (1 - p).pow(tries)).mean())
