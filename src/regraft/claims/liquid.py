"""Frozen liquid networks on link loads that jump, against networks that are fitted again now and then.

    at t0 the level of every link is multiplied by 1.2, 2 or 3, and its day begins a quarter of a day earlier

A network that is fitted again every 200 samples is stale until 200 samples after the jump are there; a liquid one is
said to follow by its state alone. Its state is bounded, as a GRU's is; a perceptron of ReLU goes on in a straight line
outside of what it was trained on. See `scaled_windows` for what keeps any of them inside.

Paper:   "Liquid Neural Network-based Adaptive Learning vs. Incremental Learning for Link Load Prediction amid Concept
         Drift due to Network Failures" Ayoub et al. 2024. https://arxiv.org/abs/2404.05304
Paper:   "Closed-form Continuous-time Neural Networks" Hasani et al. 2022. https://arxiv.org/abs/2106.13898
Claim:   over the first 200 samples after a drastic jump a frozen liquid network errs at most 0.8 times as much as one
         that is fitted again every 200 samples.
Differs: Loads are sums of sines with a failure of known size in place of a simulated network with rerouting; one
         network forecasts all links from the last half day of each.
Tags:    concept drift, diagnostic
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from regraft.evidence.claims import Arm, Claim, Test
from regraft.worlds.links import Gru, cfc, forecast, ltc, mlp, persistence


def arm(network: Callable[[], nn.Module], *, refitted: bool = False) -> Arm:
    return lambda meter, seed: forecast(network, meter, seed, refitted=refitted)


claim = Claim(
    says="over the first 200 samples after a jump to twice or three times the level, a frozen CfC errs at most 0.8 "
    "times as much as a GRU or a perceptron that is fitted again every 200 samples, and at most 1.1 times after a "
    "jump of a fifth",
    setting="8 links, sines of a day of 48 samples with 5% noise; one sample ahead from the last 24; 32 units, 600 "
    "updates before the jump, 100 for each fit after it",
    arms={
        "CfC": arm(cfc),
        "LTC": arm(ltc),
        "GRU": arm(Gru),
        "MLP": arm(mlp),
        "GRU, refitted": arm(Gru, refitted=True),
        "MLP, refitted": arm(mlp, refitted=True),
        "last sample": lambda meter, seed: persistence(seed),
    },
    tests=(
        *(
            Test(f"{jump}, at once", "CfC", f"{other}, refitted", at_most_ratio=0.8)
            for jump in ("x2", "x3")
            for other in ("GRU", "MLP")
        ),
        *(Test("mild, at once", "CfC", f"{other}, refitted", at_most_ratio=1.1) for other in ("GRU", "MLP")),
    ),
    budget="updates",
    unequal={
        "GRU, refitted": "fitted again after the jump: that is what the claim is against",
        "MLP, refitted": "fitted again after the jump: that is what the claim is against",
        "last sample": "nothing is trained",
    },
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
