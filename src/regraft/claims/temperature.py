"""How much a mini-batch's gradient varies: rare rows drawn more often, against rare rows counted more."""

from __future__ import annotations

from regraft.evidence.claims import Claim, Meter, Test
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.temperature import temperature
from regraft.parts.transforms.upweight import upweight
from regraft.worlds.imbalanced import gradient_scores, languages
from regraft.worlds.offline import context

TAU = 5.0
BY_CHANCE = 1.5


def drawn_more(meter: Meter, seed: int) -> dict[str, float]:
    return gradient_scores(meter, seed, temperature(tau=TAU), languages(seed).rows, TAU)


def counted_more(meter: Meter, seed: int) -> dict[str, float]:
    rows = upweight(tau=TAU)(languages(seed).rows, context())
    return gradient_scores(meter, seed, shuffled(), rows, TAU)


def without_bias(meter: Meter, seed: int) -> dict[str, float]:
    """What the bias of an estimator that has none is on average."""
    return {"bias": 1.0}


claim = Claim(
    says="its mini-batch gradient varies less than that of loss weighting with the same expectation",
    setting="two random languages of letters, 66,000 and 1,320 windows; one hidden layer, as initialised; 1000 batches "
    "of 64 rows at tau = 5, no step taken; bias in units of the distance that chance gives",
    arms={"drawn more often": drawn_more, "counted more": counted_more, "no bias": without_bias},
    tests=(
        Test("variance", "drawn more often", "counted more"),
        Test("bias", "drawn more often", "no bias", by=1.0 - BY_CHANCE),
        Test("bias", "counted more", "no bias", by=1.0 - BY_CHANCE),
    ),
    budget="rows",
    unequal={"no bias": "a number, not a run"},
    calibrated_on=(100, 101),
)
