"""Train a network several times, with other seeds, and keep the features of all: rich features for what comes next.

    phi = [phi_1 ... phi_n]        phi_i: what the head of network i reads

One training has no reason to gather features that do not help on its own rows; another training finds others. Together
they hardly answer better on the same rows, and are worth more when the classes or the inputs change: freeze them and
learn a head (`slow(0)`), or fine-tune all, as the paper does in two stages, the head first. `distilled` gives them to a
network of the usual size.

Paper:   "Learning useful representations for shifting tasks and distributions" Zhang and Bottou 2023.
         https://arxiv.org/abs/2212.07346
Claim:   on classes that were not trained on, a linear probe of few rows is more accurate than on one network as wide as
         all of them, at equal updates.
Needs:   rows of a classifier; n trainings.
Differs: the head begins as the mean of the members' heads; the paper learns it anew.
Tags:    representation, transfer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.models.side_by_side import side_by_side
from regraft.parts.losses.feature_distil import feature_distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled

PLAIN = Plan((Feed("new", shuffled()),), (Weighted(nll()),))


def cat(
    make: Callable[[int], Classifier],
    data: Mapping[str, Rows],
    training: Training,
    *,
    n: int = 5,
    plan: Plan = PLAIN,
    meter: Meter | None = None,
) -> Classifier:
    """n networks, made and trained with the seeds from `training.seed` on, side by side."""
    if n < 1:
        raise RegraftError(f"cat: n is {n}; it must be at least 1")
    members = []
    for seed in range(training.seed, training.seed + n):
        members.append(make(seed))
        fit(members[-1], plan, data, replace(training, seed=seed), meter=meter)
    return side_by_side(members)


def distilled(
    student: Classifier,
    teacher: Classifier,
    data: Mapping[str, Rows],
    training: Training,
    *,
    weight: float = 1.0,
    meter: Meter | None = None,
) -> Classifier:
    """`student`, taught the labels and, `weight` times as much, to give the teacher's features by a linear map."""
    imitate = feature_distil(of="teacher")
    plan = PLAIN + Plan(losses=(Weighted(imitate, weight),), trainables=(imitate,))
    fit(student, plan, data, training, others={"teacher": teacher.copy()}, meter=meter)
    return student
