"""A slow body and an aligned head on a pretrained network, over digits two at a time."""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Stage, Strategy
from regraft.strategies.ncm import ncm
from regraft.strategies.slca import slca
from regraft.worlds.pretrained import network, scenario
from regraft.worlds.splits import lived

EPOCHS, LABELS = 10, (Weighted(new_classes()),)


def twice(body: Plan) -> Strategy:
    """As many updates as SLCA trains and aligns for, all of them on the task's rows."""
    return Strategy(body, LABELS, after=(Stage(Plan((Feed("new", shuffled()),), LABELS) + body),))


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, scenario(seed), network=network, epochs=EPOCHS)


claim = Claim(
    says="a body that learns 100 times more slowly than the head is more accurate than one rate for all; with the head "
    "aligned it is more accurate than one rate for all by 15 points, and than without alignment by 3",
    setting="digits in 5 tasks of 2 classes, one head; convolutions pretrained on other rows of 0 to 4, SGD, "
    "10 epochs of 32 rows a batch and as many updates of alignment; without alignment, 20 epochs",
    arms={
        "one rate": arm(twice(Plan())),
        "one rate, factor 1": arm(twice(Plan(trainables=(slow(1.0),)))),
        "slow": arm(twice(Plan(trainables=(slow(0.01),)))),
        "SLCA": arm(slca()),
        "one rate, aligned": arm(slca(factor=1.0)),
        "frozen, aligned": arm(slca(factor=0.0)),
        "NCM": arm(ncm()),
    },
    tests=(
        Test("accuracy", "slow", "one rate", lower_is_better=False),
        Test("accuracy", "SLCA", "one rate", by=0.15, lower_is_better=False),
        Test("accuracy", "SLCA", "slow", by=0.03, lower_is_better=False),
    ),
    budget="updates",
    unequal={"NCM": "it reads every row once and trains nothing"},
    null=("one rate, factor 1", "one rate"),
    seeds=(0, 1, 2, 3, 4),
)
