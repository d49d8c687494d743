"""Twelve domains in a similar order and in random ones, learned by a small model and a larger one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.worlds.domains import random_order, similar_order, stream

SMALL, LARGE = 32, 512


def stream_in(order: Callable[[int], Sequence[int]], hidden: int) -> Arm:
    def arm(meter: Meter, seed: int) -> dict[str, float]:
        found = stream(meter, seed, order(seed), hidden=hidden).measures()
        return {**found, "size of forgetting": abs(found["forgetting"])}

    return arm


def as_good_as_alone(meter: Meter, seed: int) -> dict[str, float]:
    return {"specialisation": 0.0}


def in_similar_order(seed: int) -> Sequence[int]:
    return similar_order()


claim = Claim(
    says="in similar order a domain is learned at least as well as from the base, and better than in random order; in "
    "random order the last loss over all domains is lower; the smaller model forgets more",
    setting="source of eight packages, docstrings of four; models over letters of 9,000 and 117,000 weights that know "
    "the language reference and source of single modules; 80 updates of 64 rows a domain; held-out loss in nats "
    "a letter",
    arms={
        "similar, small": stream_in(in_similar_order, SMALL),
        "similar, large": stream_in(in_similar_order, LARGE),
        "random, small": stream_in(random_order, SMALL),
        "random, large": stream_in(random_order, LARGE),
        "alone": as_good_as_alone,
    },
    tests=(
        Test("specialisation", "similar, small", "alone", lower_is_better=False),
        Test("specialisation", "similar, large", "alone", lower_is_better=False),
        Test("specialisation", "similar, small", "random, small", lower_is_better=False),
        Test("specialisation", "similar, large", "random, large", lower_is_better=False),
        Test("average", "random, small", "similar, small"),
        Test("average", "random, large", "similar, large"),
        Test("size of forgetting", "random, large", "random, small"),
        Test("size of forgetting", "similar, large", "similar, small"),
    ),
    budget="rows",
    unequal={"alone": "what every arm measures: a model that is the base trained on one domain"},
    calibrated_on=(100,),
)
