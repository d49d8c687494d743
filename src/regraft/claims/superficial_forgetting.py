"""What falls less when operations are learned one after the other: reasoning steps, or final answers."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.metrics.superficial_forgetting import forgetting_of
from regraft.recipes.strategy import Strategy
from regraft.worlds.reasoning import lived


def arm(score: str) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        found = forgetting_of(lived(Strategy(), meter, seed))
        return {"backward transfer": found[f"{score}_backward_transfer"], "average": found[f"{score}_average"]}

    return run


claim = Claim(
    says="the steps that a model writes before its answer fall less than the answers",
    setting="four operations on five digits, which a Llama of 2 layers, width 48, had learned all at once, then one "
    "after the other; 150 AdamW steps of 32 rows each; 200 prompts held out of each; both scores are of one run",
    arms={"answers": arm("answers"), "steps": arm("steps")},
    tests=(Test("backward transfer", "steps", "answers", lower_is_better=False),),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
)
