"""Five small training problems, and what a learning-rate schedule reaches on each at its own best rate.

A perceptron on digits by SGD, a language model over the letters of Python's reference by AdamW, logistic regression on
three data sets of scikit-learn by Adam, as in the paper.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

from regraft.core.errors import RegraftError
from regraft.core.parts import GradientTransform, Schedule
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.evaluate import mean_nll
from regraft.engine.fit import Fitted, fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Meter
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds.letters import ALPHABET, WINDOW, encode, neural_ngram, windows
from regraft.worlds.python_text import reference
from regraft.worlds.tables import DataSet, data_set, perceptron

RATES = 4
TUNED_ON = (100, 101)


@dataclass(frozen=True, eq=False)
class Problem:
    """`rows(seed)`: what is trained on and the loss is measured on. Rates tried: `lr` times 1, 2, 4, 8."""

    name: str
    model: Callable[[int], Classifier]
    rows: Callable[[int], Rows]
    training: Training

    @property
    def norm(self) -> Literal["l1", "l2"]:
        """The gradient norm that refining takes for the optimizer."""
        return "l2" if self.training.optimizer == "SGD" else "l1"

    def rates(self) -> list[float]:
        return [self.training.lr * 2**i for i in range(RATES)]

    def train(
        self,
        schedule: Schedule | None,
        lr: float,
        seed: int,
        *,
        gradients: tuple[GradientTransform, ...] = (),
        memory: Mapping[str, Any] | None = None,
        meter: Meter | None = None,
    ) -> tuple[float, Fitted]:
        """The loss in nats on all rows after training, and what the run leaves."""
        model, rows = self.model(seed), self.rows(seed)
        plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), gradients=gradients, lr=schedule)
        setting = replace(self.training, lr=lr, seed=seed)
        fitted = fit(model, plan, {"new": rows}, setting, memory=memory, meter=meter)
        return mean_nll(model, rows), fitted


Method: TypeAlias = Callable[[Problem, float, int, Meter | None], float]
"""(problem, rate, seed, meter) -> the final loss."""


@cache
def letters_of_the_reference() -> Rows:
    return windows(encode("\n".join(d["text"] for d in reference()[:60])))


def _regression(name: DataSet, features: int, classes: int, lr: float) -> Problem:
    return Problem(
        name,
        lambda seed: perceptron(features, classes, seed=seed),
        lambda seed: data_set(name, seed).train,
        Training(steps=400, batch=16, lr=lr, optimizer="Adam", clip=None, log_every=400, explode=100.0),
    )


PROBLEMS = (
    Problem(
        "digits",
        lambda seed: perceptron(64, 64, 10, seed=seed),
        lambda seed: data_set("digits", seed).train,
        Training(steps=400, batch=16, lr=0.2, optimizer="SGD", clip=None, log_every=400, explode=100.0),
    ),
    Problem(
        "letters",
        lambda seed: neural_ngram(ALPHABET, WINDOW, seed=seed),
        lambda seed: letters_of_the_reference(),
        Training(steps=400, batch=64, lr=0.004, clip=None, log_every=400),
    ),
    _regression("breast_cancer", 30, 2, 0.02),
    _regression("iris", 4, 3, 0.05),
    _regression("diabetes", 10, 2, 0.01),
)


@cache
def best_rate(method: Method, problem: Problem) -> float:
    """The rate of the problem's four whose mean loss on the seeds of tuning is least."""

    def mean_loss(lr: float) -> float:
        try:
            return statistics.fmean(method(problem, lr, seed, None) for seed in TUNED_ON)
        except RegraftError:
            # It diverged, or came to rest where there is no gradient to refine by.
            return math.inf

    return min(problem.rates(), key=mean_loss)


def duel(mine: Method, rival: Method, *, rates_of: Method | None = None) -> Arm:
    """The arm of a method, each problem at the best rate there for the method, or for the one in `rates_of`.

    Scores: the loss on each problem, the mean of their logarithms, and on how many the loss is lower than the rival's.
    """

    def arm(meter: Meter, seed: int) -> dict[str, float]:
        (losses, counts), (theirs, _) = _losses(mine, rates_of or mine, seed), _losses(rival, rival, seed)
        meter.add(**counts)
        won = sum(losses[name] < theirs[name] for name in losses)
        level = statistics.fmean(math.log(loss) for loss in losses.values())
        return {**{f"loss on {n}": v for n, v in losses.items()}, "mean log loss": level, "problems won": won}

    return arm


@cache
def _losses(method: Method, tuned: Method, seed: int) -> tuple[dict[str, float], dict[str, int]]:
    """The final loss on each problem, and what was spent."""
    meter = Meter()
    return {p.name: method(p, best_rate(tuned, p), seed, meter) for p in PROBLEMS}, meter.counts()
