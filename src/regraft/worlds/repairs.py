"""Repairs of the planted gaps (`regraft.worlds.operations`): what demonstrations and rewards make of the same base.

Questions and demonstrations are of the same prompts. A run's scores are how much of each group of skills it answers
rightly, greedily, on fresh questions: `known`, `habits`, `missing`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Fitted, Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.verified import verified
from regraft.worlds import operations

BATCH, COPIES, LR = 128, 8, 1e-3
TOKENS = operations.DIGITS + 2
LEARNED = 500
"""The seed of what is learned, beside the run's own: tests are of other questions."""


def questions(seed: int, skills: Sequence[str], each: int) -> Rows:
    """Questions to write after, so many of each skill."""
    return operations.asked([row for skill in skills for row in operations.items(skill, each, LEARNED + seed)])


def demonstrations(seed: int, skills: Sequence[str], each: int) -> Rows:
    """Their answers, as blocks; `item`: which question a row answers."""
    rows = operations.blocks([row for skill in skills for row in operations.items(skill, each, LEARNED + seed)])
    return rows.having(item=rows["row"])


def reinforced(prompts: Any = None, **knobs: Any) -> Plan:
    """Group-relative policy gradient on rollouts of feed `rl`; `prompts`: what draws from the rows `items`."""
    written = rollouts(
        shuffled("items") if prompts is None else prompts,
        (verified(), group_advantage()),
        copies=COPIES,
        tokens=TOKENS,
        at_once=4096,
    )
    return Plan((Feed("rl", written),), (Weighted(policy_gradient(per=TOKENS, **knobs), on=("rl",)),))


def imitated(sampler: Any = None, **place: Any) -> Plan:
    """The demonstrations, as a feed `shown`."""
    return Plan((Feed("shown", sampler or shuffled("shown"), **place),), (Weighted(nll(), on=("shown",)),))


def trained(
    model: CausalLM, plan: Plan, data: Mapping[str, Rows], steps: int, seed: int, meter: Meter | None, **kw: Any
) -> Fitted:
    with one_thread():
        return fit(model, plan, data, Training(steps, BATCH, LR, seed=seed, log_every=10), meter=meter, **kw)


def scores(model: CausalLM, seed: int) -> dict[str, float]:
    """The three groups' rates, in percent, and their mean over all skills."""
    with one_thread():
        rates = operations.rates(model, seed)
    groups = {"known": operations.KNOWN, "habits": tuple(operations.HABITS), "missing": operations.MISSING}
    found = {name: 100 * statistics.fmean(rates[skill] for skill in skills) for name, skills in groups.items()}
    return {**found, "all": 100 * statistics.fmean(rates.values())}
