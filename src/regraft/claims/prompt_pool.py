"""A pool of prompts for a pretrained transformer, over drawings ten classes at a time."""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Strategy
from regraft.strategies.l2p import l2p
from regraft.worlds.transformers import lived, pretrained

LABELS = (Weighted(new_classes()),)


def arm(strategy: Strategy) -> Arm:
    return lambda meter, seed: lived(strategy, meter, seed, network=pretrained)


claim = Claim(
    says="without memory it is more accurate by 25 points than training the whole pretrained network on the same loss, "
    "and at least as accurate as training its head alone",
    setting="drawings of 40 curves in 4 tasks, nobody says which; vision transformer of 2 layers, 64 wide, 16 patches, "
    "pretrained on 40 other curves; AdamW, 20 epochs of 32 rows a batch; one prompt of one place for each row, as many "
    "for its 16 patches as the paper's 25 places are for 196, and the head reads all places; chosen on seed 100",
    arms={
        "naive": arm(Strategy(labels=LABELS)),
        "head alone": arm(Strategy(Plan(trainables=(slow(0.0),)), labels=LABELS)),
        "L2P": arm(l2p(N=1, length=1, read="all")),
    },
    tests=(
        Test("accuracy", "L2P", "naive", by=0.25, lower_is_better=False),
        Test("accuracy", "L2P", "head alone", lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
)
