"""Chains of arithmetic (`regraft.worlds.chains`) of which the whole solution is checked, and some are demonstrated.

An answer is right if every step is. So a chain is found by trying about as often as the base does one step rightly, to
the power of its steps, and no digit is right by luck.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from regraft.core.parts import Transform
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import uncounted
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import Asking, tried
from regraft.parts.transforms.verified import verified
from regraft.recipes.answered import still
from regraft.recipes.repairing import InMemory, Lesson, Repair, Workshop
from regraft.worlds import chains

BATCH, LR = 128, 1e-3


def judge() -> Transform:
    """Whether a solution is right in every step."""
    return verified()


def whole(items: Rows) -> Rows:
    """Questions whose answer is the whole solution."""
    return items.having(answer=[chains.solution(chains.values(prompt)) for prompt in items["prompt"]])


def lesson(seed: int, difficulties: Sequence[int], each: int, shown: int | None = None) -> Lesson:
    """Questions, so many of each difficulty, and demonstrations of so many of them, at random; none: of all."""
    found = chains.lesson(seed, difficulties, each)
    assert found.shown is not None
    dice = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(found.shown.count, generator=dice)[:shown].sort().values
    return replace(found, items=whole(found.items), judge=judge(), shown=found.shown.take(chosen))


def repaired(
    how: Repair, model: CausalLM, lesson: Lesson, steps: int, seed: int, meter: Meter | None = None
) -> InMemory:
    """Repairs the model, in place, in so many updates."""
    doer = InMemory(meter)
    with one_thread():
        how(Workshop(model, lesson, Training(steps, BATCH, LR, seed=seed, log_every=10), doer))
    return doer


def rates(model: CausalLM, seed: int, scores: Mapping[str, Sequence[int]], count: int = 200) -> dict[str, float]:
    """How much of fresh questions is answered rightly by what is likeliest, in percent: each score is a mean over
    difficulties."""
    found = {d: answered(model, whole(chains.fresh(seed, d, count))) for d in {d for ds in scores.values() for d in ds}}
    return {name: statistics.fmean(found[d] for d in difficulties) for name, difficulties in scores.items()}


def answered(model: CausalLM, items: Rows) -> float:
    """How many questions are answered rightly by what is likeliest, in percent."""
    return 100 * float(tries(model, items, chains.ASKING._replace(copies=1, how=Sampling(0.0))).mean())


def tries(model: CausalLM, items: Rows, asking: Asking = chains.ASKING, seed: int = 0) -> torch.Tensor:
    """The rewards of answers to questions, [items, copies]; nobody counts them."""
    with one_thread(), uncounted():
        return tried(model, items, judge(), asking, still(model, torch.Generator().manual_seed(seed))).rewards
