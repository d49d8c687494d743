"""How long and how high to re-warm: the length hardly matters, the height trades the old for the new."""

from __future__ import annotations

from itertools import permutations

from regraft.core.parts import Schedule
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.schedules.constant import constant
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds import stream

# Below the rate that is best for this model, as the paper's is for its own: else twice the peak could not learn better.
PEAK = 2e-3
LENGTHS = {"0%": 0.0, "0.5%": 0.005, "1%": 0.01, "2%": 0.02}


def arm(schedule: Schedule, height: float = 1.0, new: stream.Corpus = "code") -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = stream.base(seed, lr=PEAK)
        watched = stream.update(model, meter, seed, new, schedule=schedule, lr=height * PEAK, watch=("prose",))
        loss = stream.losses(model, "prose", "code")
        return {"new loss": loss[new], "old loss": loss["prose"], "spike": stream.spike(watched, "prose")}

    return run


claim = Claim(
    says="the length of the rise moves the new loss by at most 1.5%; a higher peak learns the new better and keeps the "
    "old worse; on the old text itself re-warming raises the loss at first and then overtakes the constant rate",
    setting="0.2M-parameter Llama trained on prose by one cosine, then source code: 300 updates of 1,024 tokens",
    arms={
        **{f"{says} rise": arm(rewarm(warmup=length)) for says, length in LENGTHS.items()},
        "twice the peak": arm(rewarm(), 2.0),
        "constant at the floor": arm(constant(value=stream.FLOOR)),
        "same text": arm(rewarm(), new="prose"),
        "same text, constant at the floor": arm(constant(value=stream.FLOOR), new="prose"),
    },
    tests=(
        *(Test("new loss", f"{a} rise", f"{b} rise", relative=-0.015) for a, b in permutations(LENGTHS, 2)),
        Test("new loss", better="twice the peak", than="1% rise"),
        Test("new loss", better="1% rise", than="constant at the floor"),
        Test("old loss", better="constant at the floor", than="1% rise"),
        Test("old loss", better="1% rise", than="twice the peak"),
        Test("spike", better="same text, constant at the floor", than="same text", by=0.02),
        Test("new loss", better="same text", than="same text, constant at the floor"),
    ),
)
