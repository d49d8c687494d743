"""Half of what was learned is taken back, after tables that made a language model forget its facts."""

from __future__ import annotations

from regraft.core.plan import Plan
from regraft.engine.edits import apply
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.edits.half_reset import half_reset
from regraft.parts.trainables.half import half
from regraft.recipes.strategy import Strategy
from regraft.worlds.facts import recall
from regraft.worlds.skills import base, known, lived, scenario


def arm(kept: float) -> Arm:
    """The part `kept` of the matrices stays as all of them are after the tables."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model, _ = lived(Strategy(Plan(trainables=(half(ratio=1.0, rest=()),))), meter, seed)
        before = base(seed)
        apply(half_reset(kept, rest=()), model, {}, {}, seed=seed, others={"before": before})
        last = scenario(seed).tasks[-1].test
        return {"forgotten": known(before, seed) - known(model, seed), "last table": recall(model, last)}

    return run


claim = Claim(
    says="of the facts that a language model forgot over three new tables, it gives back at least half",
    setting="80 facts and copying, then 3 tables of 64 entries, 200 AdamW steps of 32 each, embeddings and norms held; "
    "Llama of 4 layers, width 48",
    arms={"fine-tuned": arm(1.0), "half reset": arm(0.5)},
    tests=(Test("forgotten", "half reset", "fine-tuned", relative=0.5),),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101, 102, 103),
)
