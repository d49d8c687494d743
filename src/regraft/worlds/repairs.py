"""Repairs of the planted gaps (`regraft.worlds.operations`): what demonstrations and rewards make of the same base.

Questions and demonstrations are of the same prompts. A run's scores are how much of each group of skills it answers
rightly, greedily, on fresh questions: `known`, `habits`, `missing`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import uncounted
from regraft.numerics.trying import Asking
from regraft.parts.transforms.verified import verified
from regraft.recipes.repairing import InMemory, Lesson, Repair, Workshop
from regraft.worlds import operations

BATCH, COPIES, LR = 128, 8, 1e-3
TOKENS = operations.DIGITS + 2
LEARNED = 500
"""The seed of what is learned, beside the run's own: tests are of other questions."""


def lesson(seed: int, skills: Sequence[str], each: int) -> Lesson:
    """Questions, so many of each skill, and a demonstration of each."""
    rows = [row for skill in skills for row in operations.items(skill, each, LEARNED + seed)]
    shown = operations.blocks(rows)
    items = operations.asked(rows).having(skills=[tuple(row["tags"]) for row in rows])
    asking = Asking(copies=COPIES, tokens=TOKENS, at_once=4096)
    return Lesson(items, verified(), asking, shown=shown.having(item=shown["row"]))


def workshop(seed: int, skills: Sequence[str], each: int, steps: int, meter: Meter | None = None) -> Workshop:
    """The base, and what it is to learn from, in so many updates."""
    training = Training(steps, BATCH, LR, seed=seed, log_every=10)
    return Workshop(operations.base(seed), lesson(seed, skills, each), training, InMemory(meter))


def repaired(how: Repair, w: Workshop) -> dict[str, float]:
    """The scores of the base after a repair."""
    with one_thread():
        how(w)
    return scores(w.model, w.training.seed)


def scores(model: CausalLM, seed: int) -> dict[str, float]:
    """The three groups' rates, in percent, and their mean over all skills."""
    with one_thread(), uncounted():
        rates = operations.rates(model, seed)
    groups = {"known": operations.KNOWN, "habits": tuple(operations.HABITS), "missing": operations.MISSING}
    found = {name: 100 * statistics.fmean(rates[skill] for skill in skills) for name, skills in groups.items()}
    return {**found, "all": 100 * statistics.fmean(rates.values())}
