"""Loss weights that stand in for temperature sampling: the same gradient, without bias, and no other at tau = 1."""

from __future__ import annotations

from regraft.core.rows import Rows
from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.upweight import upweight
from regraft.worlds.imbalanced import expected_gradient, full_batch_gradient, gradient_scores, languages
from regraft.worlds.offline import context

TAU = 5.0


def scores(meter: Meter, seed: int, rows: Rows) -> dict[str, float]:
    whole, expected = full_batch_gradient(seed, rows), expected_gradient(seed, TAU)
    error = float((whole - expected).norm() / expected.norm())
    return {"full-batch error": error, **gradient_scores(meter, seed, shuffled(), rows, TAU)}


def as_they_are(meter: Meter, seed: int) -> dict[str, float]:
    return scores(meter, seed, languages(seed).rows)


def upweighted_by_one(meter: Meter, seed: int) -> dict[str, float]:
    return scores(meter, seed, upweight(tau=1.0)(languages(seed).rows, context()))


def upweighted(meter: Meter, seed: int) -> dict[str, float]:
    return scores(meter, seed, upweight(tau=TAU)(languages(seed).rows, context()))


def in_the_mean(meter: Meter, seed: int) -> dict[str, float]:
    """The same factors as column `weight`, by which the mean of a batch is divided."""
    rows = upweight(tau=TAU)(languages(seed).rows, context())
    return scores(meter, seed, rows.having(weight=rows["scale"]).only("x", "y", "source", "weight"))


def exact(meter: Meter, seed: int) -> dict[str, float]:
    return {"full-batch error": 0.0}


claim = Claim(
    says="the full-batch gradient is the one that temperature sampling expects, and that of mini-batches has no bias, "
    "unlike that of a weighted mean",
    setting="two random languages of letters, 66,000 and 1,320 windows; one hidden layer, as initialised; 1000 batches "
    "of 64 rows at tau = 5, no step taken; bias in units of the distance that chance gives",
    arms={
        "upweighted": upweighted,
        "weighted mean": in_the_mean,
        "by one": upweighted_by_one,
        "as they are": as_they_are,
        "exact": exact,
    },
    tests=(
        Test("full-batch error", "upweighted", "exact", by=-1e-5),
        Test("bias", "upweighted", "weighted mean", at_most_ratio=0.5),
    ),
    budget="rows",
    unequal={"exact": "a number, not a run"},
    null=("by one", "as they are"),
    calibrated_on=(100, 101),
)
