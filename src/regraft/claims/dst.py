"""How dense each layer should be: ERK against the same everywhere, in networks with many weights and with few."""

from __future__ import annotations

from typing import Literal

from regraft.evidence.claims import Arm, Claim, Test
from regraft.strategies.dst import dst
from regraft.worlds.permuted import lived


def arm(density: float, init: Literal["uniform", "erk"]) -> Arm:
    strategy = dst(density=density, init=init, grow="momentum", every=20)
    return lambda meter, seed: {"accuracy": lived(strategy, meter, seed).measures()["average"]}


claim = Claim(
    says="at a density of 0.2 ERK is more accurate than the same density in every layer; at 0.05 it is the other way "
    "round",
    setting="digits in 10 orders of their pixels, told which; perceptron 64-128-128-10, Adam, 5 epochs of 32 rows a "
    "batch; grown by momentum every 20 batches",
    arms={f"{init}, {d:g}": arm(d, init) for d in (0.2, 0.05) for init in ("erk", "uniform")},
    tests=(
        Test("accuracy", "erk, 0.2", "uniform, 0.2", lower_is_better=False),
        Test("accuracy", "uniform, 0.05", "erk, 0.05", lower_is_better=False),
    ),
    budget="updates",
    seeds=tuple(range(10)),
)
