"""What DPO does to margins, and what to the ranking of pairs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.causal import CausalLM
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.metrics.preference_ranking import preference_ranking
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds import proxies
from regraft.worlds.courteous import AGREED, pairs
from regraft.worlds.offline import context

PAIRS, STEPS, BATCH, LR, BETA = 800, 150, 64, 2e-3, 0.1
CHANCE = 50.0
"""How many margins are right by luck, in percent."""


def dpo(beta: float = BETA, steps: int = STEPS) -> Arm:
    """What the metric says, in percent; how much the ranking gained of what margins did; and of the pairs that were
    ranked wrongly, what became of those by how far they were from right."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model, rows = proxies.base(seed), pairs(PAIRS, seed)
        plan = Plan((Feed("new", shuffled()),), (Weighted(direct_preference(beta=beta, wrong=1 - AGREED)),))
        with one_thread():
            fit(model, plan, {"new": rows}, Training(steps, BATCH, LR, seed=seed, log_every=steps), meter=meter)
            numbers, _ = measured(model, rows, seed, beta)
            _, quintiles = measured(model, rows.where(rows["c"] > 0), seed, beta)
        gained = (numbers["ranking"] - numbers["reference"]) / (numbers["margin"] - CHANCE)
        return {
            **numbers,
            "ranking's gain": 100 * gained,
            "flipped, least c": quintiles[0],
            "flipped, most c": quintiles[-1],
            "rises": float(sum(later > sooner for sooner, later in pairwise(quintiles))),
        }

    return run


def measured(model: CausalLM, rows: Rows, seed: int, beta: float) -> tuple[dict[str, float], list[float]]:
    """The metric's numbers, and the ranking of pairs by quintiles of c, all in percent."""
    ctx = replace(context(data={"pairs": rows}), models={"student": model, "before": proxies.base(seed)})
    found = preference_ranking(beta=beta, batch=256)(model, ctx)
    numbers = {name: 100 * value for name, value in found.numbers.items()}
    return numbers, [100 * part["ranking"] for part in found.tables["flips"]]


def asked(meter: Meter, seed: int) -> dict[str, float]:
    return {"margin": 90.0, "ranking's gain": 50.0, "gap": 0.0, "rises": 0.5}


claim = Claim(
    says="margins are right for over 90% of the pairs, while the ranking gains less than half of what margins do; the "
    "farther the reference was from ranking a pair rightly, the fewer are flipped, from quintile to quintile; the "
    "ranking stays under the idealised one, and more pairs stay wrong if beta is larger",
    setting=f"{PAIRS} pairs of answers of up to 16 words, a Llama of 22,000 weights that ranks 30% of them wrongly, by "
    f"0 to 40 nats; {STEPS} updates of {BATCH} pairs (12 passes), beta {BETA}, one label of "
    "ten the other way, measured on the pairs that it learned",
    arms={
        "DPO": dpo(),
        "DPO, beta 0.5": dpo(beta=0.5),
        "DPO, four times as long": dpo(steps=4 * STEPS),
        "asked": asked,
    },
    tests=(
        Test("margin", "DPO", "asked", lower_is_better=False),
        Test("ranking's gain", "DPO", "asked"),
        Test("rises", "DPO", "asked"),
        Test("gap", "DPO", "asked", lower_is_better=False),
        Test("ranking", "DPO", "DPO, beta 0.5", lower_is_better=False),
    ),
    budget="updates",
    unequal={"asked": "what the claim asks for; nothing is learned", "DPO, four times as long": "to see where it ends"},
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101),
)
