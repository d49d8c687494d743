"""A frozen recurrent network follows link loads that jump, if it reads and forecasts them in units of each window.

    forecast = m · network(window / m)        m: the mean of the window

The jump then leaves the network where it was trained, whatever its cell; no sample after it has to be waited for.

Paper:   "Reversible Instance Normalization for Accurate Time-Series Forecasting against Distribution Shift" Kim et al.
         2022. https://openreview.net/forum?id=cGDAkQo1C0p
Claim:   after a drastic jump of the level it errs less than the same network without, and less at once than a network
         that is fitted again.
Differs: Each window is divided by its mean; the paper also subtracts it, divides by the deviation, and learns an affine
         map.
Tags:    concept drift
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from regraft.evidence.claims import Arm, Claim, Test
from regraft.worlds.links import Gru, Scaled, cfc, forecast, mlp


def arm(network: Callable[[], nn.Module], *, refitted: bool = False, scaled: bool = False) -> Arm:
    made = (lambda: Scaled(network())) if scaled else network
    return lambda meter, seed: forecast(made, meter, seed, refitted=refitted)


claim = Claim(
    says="over the first 200 samples after a jump to twice or three times the level, a frozen CfC that reads each "
    "window in units of its mean errs at most 0.8 times as much as without, and as a GRU that is fitted again every "
    "200 samples; so does a frozen GRU",
    setting="8 links, sines of a day of 48 samples with 5% noise; one sample ahead from the last 24; 32 units, 600 "
    "updates before the jump, 100 for each fit after it",
    arms={
        "CfC": arm(cfc),
        "CfC, scaled": arm(cfc, scaled=True),
        "GRU, scaled": arm(Gru, scaled=True),
        "MLP, scaled": arm(mlp, scaled=True),
        "GRU, refitted": arm(Gru, refitted=True),
    },
    tests=tuple(
        Test(f"{jump}, at once", better, than, at_most_ratio=0.8)
        for jump in ("x2", "x3")
        for better, than in (("CfC, scaled", "CfC"), ("CfC, scaled", "GRU, refitted"), ("GRU, scaled", "GRU, refitted"))
    ),
    budget="updates",
    unequal={"GRU, refitted": "fitted again after the jump: that is what the claim is against"},
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
