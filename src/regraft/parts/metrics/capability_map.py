"""What a model can do, skill by skill: how often it is right, how often it could be, and what would repair it.

    pass_i  = c_i / n                               c_i: of n answers written for item i, those that are right
    rate    = mean of pass_i over a skill's items   interval: Wilson's, over the items
    reach_k = mean of 1 - C(n - c_i, k) / C(n, k)   solved in k tries, without bias; k = n

    known       rate >= `known`                     leave it, but rehearse it
    reachable   reach >= `reachable`                it is done now and then: reinforcement can find it
    missing     else                                it must be shown: demonstrations

An item counts for each of its skills. Rewards are those of `judge`; an answer is right that has the reward 1 or more.
It gives the tables `skills`, a row each, the weakest first; `items`, right answers by item; `faults` of the checker.

Paper: "Evaluating Large Language Models Trained on Code" Chen et al. 2021 (pass@k). https://arxiv.org/abs/2107.03374
Needs: rows `source` as `rollouts` reads them, with a column `skills`: of each item the names of its skills.
Tags:  diagnostic, reinforcement learning, language model
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model, Transform
from regraft.core.rows import Rows
from regraft.numerics.sampling import Sampling
from regraft.numerics.tally import MOST_FAULTS, faults
from regraft.numerics.trying import Asking, Tried, tried

Z = 1.959963984540054


@metric
def capability_map(
    model: Model,
    ctx: Context,
    *,
    judge: Transform,
    source: str = "items",
    copies: int = 8,
    tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop: tuple[str, ...] = (),
    known: float = 0.9,
    reachable: float = 0.2,
    at_once: int = 64,
) -> Measurement:
    return mapped(
        model,
        ctx,
        ctx.rows(source),
        judge,
        Asking(copies, tokens, Sampling(temperature, top_p=top_p), stop, at_once),
        known=known,
        reachable=reachable,
    )


def mapped(
    model: Any,
    ctx: Context,
    items: Rows,
    judge: Transform,
    asking: Asking,
    *,
    known: float = 0.9,
    reachable: float = 0.2,
    on_rows: Callable[[int, int], None] | None = None,
) -> Measurement:
    """The map of a language model on items; `on_rows` hears how many answers are written, and of how many."""
    if not items:
        raise RegraftError("there is no item to ask")
    answers = tried(model, items, judge, asking, ctx, on_rows=on_rows)
    return read_map(items, answers, known=known, reachable=reachable)


def read_map(items: Rows, answers: Tried, *, known: float = 0.9, reachable: float = 0.2) -> Measurement:
    """The map that answers to items draw."""
    rows, written, copies = answers
    right = answers.right
    lengths = written.lengths.view(-1, copies).double()
    each = {
        "rate": right / copies,
        "reach": solved_in(right, copies, copies),
        "tokens": lengths.mean(1),
        "entropy": -written.log_probs.double().sum(1).view(-1, copies).sum(1) / lengths.sum(1),
    }
    skills = [_skill(name, at, each, known, reachable) for name, at in _places(items).items()]
    skills.sort(key=lambda skill: (skill["rate"], skill["reach"], skill["skill"]))
    tables = {"skills": skills, "items": right.tolist(), "faults": dict(faults(rows).most_common(MOST_FAULTS))}
    numbers = {f"{skill['skill']}/{what}": skill[what] for skill in skills for what in ("rate", "reach")}
    return Measurement({"rate": float(each["rate"].mean()), **numbers}, tables)


def solved_in(right: Tensor, n: int, k: int) -> Tensor:
    """1 - C(n - c, k) / C(n, k) for each count c of right answers among n, float64."""
    table = [1 - math.comb(n - c, k) / math.comb(n, k) for c in range(n + 1)]
    return torch.tensor(table, dtype=torch.float64)[right]


def wilson(rate: float, n: int) -> tuple[float, float]:
    """The 95% interval of a rate over n items."""
    centre, half = rate + Z**2 / (2 * n), Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return max(0.0, (centre - half) / (1 + Z**2 / n)), min(1.0, (centre + half) / (1 + Z**2 / n))


def _places(items: Rows) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, names in enumerate(items["skills"]):
        for name in names:
            found.setdefault(name, []).append(place)
    return found


def _skill(name: str, at: list[int], each: dict[str, Tensor], known: float, reachable: float) -> dict[str, Any]:
    rate, reach, tokens, entropy = (float(column[at].double().mean()) for column in each.values())
    low, high = wilson(rate, len(at))
    state: Literal["known", "reachable", "missing"] = "missing"
    if rate >= known:
        state = "known"
    elif reach >= reachable:
        state = "reachable"
    found = {"skill": name, "items": len(at), "rate": rate, "low": low, "high": high, "reach": reach}
    return {**found, "tokens": tokens, "entropy": entropy, "state": state}
