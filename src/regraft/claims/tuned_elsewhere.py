"""Settings chosen on one stream and judged on another, against settings chosen where they are judged.

    protocol     argmax_s mean average(s) on tuning streams,   then: average(s) on the judged one
    hindsight    max_s average(s) on the judged stream itself

Hindsight is at least as good by construction; how much better it looks is the optimism of a comparison that tunes where
it judges, and pairs of methods may turn. `regraft bench continual --hindsight` says both for methods of one's own.

Paper: "Hyperparameters in Continual Learning: a Reality Check" Cha and Cho 2024. https://arxiv.org/abs/2403.09066
Claim: judged where they were tuned, methods look better than they are on a stream that nobody tuned on.
Tags:  forgetting, diagnostic
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import cache

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.evidence.compared import Comparison, Found
from regraft.recipes.comparison import Trial, attempt, compare
from regraft.worlds.grounds import GROUNDS

METHODS = ("naive", "er", "online_ewc", "lwf", "der_pp")
TUNED_ON = (100,)
SETTINGS = 6


@cache
def found(trial: Trial) -> Found:
    return attempt(trial, GROUNDS[trial.ground])


def run(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
    return ((trial, found(trial)) for trial in trials)


@cache
def compared(seed: int) -> Comparison:
    places = {"classes": GROUNDS["classes"]}
    return compare(places, METHODS, run, seeds=(seed,), tuning_seeds=TUNED_ON, configurations=SETTINGS, hindsight=True)


def arm(hindsight: bool) -> Arm:
    """The methods' averages, and their mean."""

    def scores(meter: Meter, seed: int) -> dict[str, float]:
        rows = compared(seed).rows["classes"]
        said = {row.method: row.hindsight if hindsight else row.mean("average")[0] for row in rows}
        each = {name: 100 * value for name, value in said.items() if value is not None}
        return {**each, "mean average, %": statistics.fmean(each.values())}

    return scores


claim = Claim(
    says="the mean of five methods is higher by more than half a point where their settings are chosen on the judged "
    "stream",
    setting="digits in 5 × 2 classes, one head, tuned on letters drawn by us; six settings of each of naive, er, "
    "online_ewc, lwf, der_pp",
    arms={"protocol": arm(hindsight=False), "hindsight": arm(hindsight=True)},
    tests=(Test("mean average, %", "hindsight", "protocol", by=0.5, lower_is_better=False),),
    budget="none",
    seeds=(0, 1, 2),
    calibrated_on=(100,),
)
