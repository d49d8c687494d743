"""One mean a class on frozen features, against training the network on, over digits two at a time."""

from __future__ import annotations

from dataclasses import replace

from regraft.core.plan import Plan
from regraft.data.scenario import Scenario
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Strategy
from regraft.strategies.joint import joint
from regraft.strategies.lwf import lwf
from regraft.strategies.ncm import ncm
from regraft.strategies.online_ewc import online_ewc
from regraft.worlds.pretrained import network, scenario
from regraft.worlds.splits import lived

EPOCHS = 10


def learned(strategy: Strategy, meter: Meter, stream: Scenario, seed: int) -> dict[str, float]:
    return lived(strategy, meter, seed, stream, network=network, epochs=EPOCHS)


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: learned(strategy, meter, scenario(seed), seed)


def backwards(meter: Meter, seed: int) -> dict[str, float]:
    stream = scenario(seed)
    return learned(ncm(), meter, replace(stream, tasks=stream.tasks[::-1]), seed)


claim = Claim(
    says="it is more accurate by 30 points than training the network on, plainly, with EWC or with LwF; the order of "
    "tasks does not matter, and a linear head that learns from all rows at once is at most 15 points better",
    setting="digits in 5 tasks of 2 classes, one head; convolutions pretrained on other rows of 0 to 4, SGD, "
    "10 epochs, batches of 32; LwF at the strength that was best on another seed, EWC at its default",
    arms={
        "naive": arm(Strategy()),
        "EWC": arm(online_ewc()),
        "LwF": arm(lwf(strength=10.0)),
        "NCM": arm(ncm()),
        "NCM, cosine": arm(ncm(distance="cosine")),
        "NCM, tasks backwards": backwards,
        "joint linear head": arm(joint() + Strategy(Plan(trainables=(slow(0.0),)))),
    },
    tests=(
        *(Test("accuracy", "NCM", other, by=0.3, lower_is_better=False) for other in ("naive", "EWC", "LwF")),
        Test("accuracy", "NCM", "joint linear head", by=-0.15, lower_is_better=False),
        Test("accuracy", "NCM, tasks backwards", "NCM", by=-1e-9, lower_is_better=False),
    ),
    budget="updates",
    unequal={
        **dict.fromkeys(("NCM", "NCM, cosine", "NCM, tasks backwards"), "it reads every row once and trains nothing"),
        "joint linear head": "it reads the rows of all tasks again in every task: the ceiling",
    },
    seeds=(0, 1, 2, 3, 4),
)
