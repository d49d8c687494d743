"""What `learn` does for new text comes close to training from scratch on everything, for less than half the tokens."""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.evidence.claims import Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.recipes.learn import STRONG_SHARE
from regraft.worlds import stream

STEPS = 500


def scores(model: CausalLM, tokens: int) -> dict[str, float]:
    loss = stream.losses(model, "prose", "code")
    return {
        "mean loss": (loss["prose"] + loss["code"]) / 2,
        "old loss": loss["prose"],
        "new loss": loss["code"],
        "tokens": float(tokens),
    }


def learned(meter: Meter, seed: int) -> dict[str, float]:
    """The plan that `learn` makes for a strong shift: re-warm, and a share of every batch from the past."""
    model = stream.base(seed)
    stream.update(model, meter, seed, "code", past=("prose",), share=STRONG_SHARE, steps=STEPS)
    return scores(model, meter.tokens)


def union(meter: Meter, seed: int) -> dict[str, float]:
    """From scratch on both texts, half of every batch each, for the tokens of the base and of the update together."""
    both = Plan((Feed("prose", shuffled("prose")), Feed("code", shuffled("code"))), (Weighted(nll()),), lr=rewarm())
    rows: dict[str, Rows] = {name: stream.text(name).train for name in ("prose", "code")}
    model = stream.fresh(seed)
    stream.train(model, meter, seed, both, rows, steps=stream.BASE_STEPS + STEPS)
    return scores(model, meter.tokens)


claim = Claim(
    says="re-warming with 25% replay ends within 2% of the mean loss of training from scratch on the union, at no "
    "more than half of its tokens",
    setting="0.2M-parameter Llama trained on prose (600 updates of 1,024 tokens), then source code (500 updates)",
    arms={
        "re-warm + replay": learned,
        "union": union,
    },
    tests=(
        Test("mean loss", better="re-warm + replay", than="union", relative=-0.02),
        Test("tokens", better="re-warm + replay", than="union", at_most_ratio=0.5),
    ),
    seeds=(0, 1, 2, 3, 4),
    unequal={"union": "it reads all that the base read once more: the cost of the base and of the update together"},
)
