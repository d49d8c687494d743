"""A strategy carries a model through a stream of tasks: one plan, begun anew for every task.

    for each task:   fit(new rows + the strategy's plan)  ->  every task is tested

What its parts leave in memory reaches the next task; so do the classes that were learned (`classes`). A new row is read
as often under every strategy: rows of memory come on top, as `Feed.share` of a larger batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regraft.core.errors import Clash, RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.data.scenario import Scenario
from regraft.engine.fit import Fitted, Meter, fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.ability_matrix import AbilityMatrix
from regraft.parts.samplers.shuffled import shuffled

TESTED_ROWS = 4096


@dataclass(frozen=True)
class Strategy:
    """How to learn each task of a stream.

    Attributes:
        plan: what is added to plain training on the task's rows.
        labels: what is learned from labels, if not the cross-entropy of all rows alike.
    """

    plan: Plan = field(default_factory=Plan)
    labels: tuple[Weighted, ...] = ()

    def __add__(self, other: Strategy) -> Strategy:
        if self.labels and other.labels and self.labels != other.labels:
            said = " and ".join(str([str(w.part) for w in s.labels]) for s in (self, other))
            raise Clash(f"both strategies say how labels are learned: {said}", do="Keep one")
        return Strategy(self.plan + other.plan, self.labels or other.labels)


@dataclass(frozen=True, eq=False)
class Lived:
    """What became of a stream.

    Attributes:
        accuracy: [tasks + 1, tasks], of every task before the first and after each task.
        fitted: what each task's training left.
    """

    accuracy: NDArray[np.float64]
    fitted: tuple[Fitted, ...]

    def measures(self) -> dict[str, float]:
        """average, forgetting, backward and forward transfer; see `ability_matrix`."""
        learned = (None, *range(self.accuracy.shape[1]))
        return AbilityMatrix(self.accuracy, learned, better="higher").measures()


def live(
    model: Classifier,
    scenario: Scenario,
    strategy: Strategy,
    training: Training,
    *,
    epochs: float = 1.0,
    meter: Meter | None = None,
) -> Lived:
    """Learns the tasks of a scenario in order; `model` ends as it is after the last.

    `training.batch` counts new rows; its `steps` are set by `epochs` and the task's rows.

    Raises RegraftError for feeds that leave no room for new rows, or whose share is not a number.
    """
    shares = [feed.share for feed in strategy.plan.feeds]
    fixed = [share for share in shares if isinstance(share, float | int)]
    if len(fixed) < len(shares) or sum(fixed) >= 1:
        raise RegraftError(f"the strategy's feeds have the shares {shares}", do="Give each a number, under 1 together")
    memory: Mapping[str, Any] = {}
    known = torch.empty(0, dtype=torch.long)
    accuracies = [tested(model, scenario)]
    fitted = []
    for i, task in enumerate(scenario.tasks):
        rows = task.train
        plan = Plan((Feed("new", shuffled()),)) + strategy.plan + Plan(losses=strategy.labels or (Weighted(nll()),))
        setting = replace(
            training,
            steps=max(1, round(epochs * rows.count / training.batch)),
            batch=round(training.batch / (1 - sum(fixed))),
            seed=training.seed + i,
        )
        done = fit(model, plan, {"new": rows}, setting, memory={**memory, "classes": known}, meter=meter)
        memory = done.memory
        known = torch.cat([known, task.classes]).unique()
        fitted.append(done)
        accuracies.append(tested(model, scenario))
    return Lived(np.array(accuracies), tuple(fitted))


@torch.no_grad()
def tested(model: Classifier, scenario: Scenario) -> list[float]:
    """The part of each task's test rows that is classified rightly."""
    training = model.module.training
    model.module.eval()
    found = []
    for task in scenario.tasks:
        logits = torch.cat([model.module(chunk["x"].to(model.device)) for chunk in task.test.chunks(TESTED_ROWS)])
        if task.asked is None:
            chosen = logits.argmax(-1)
        else:
            asked = task.asked.to(logits.device)
            chosen = asked[logits[:, asked].argmax(-1)]
        found.append(float((chosen.cpu() == task.test["y"]).double().mean()))
    model.module.train(training)
    return found
