"""Re-warming learns new text better than going on at the small final rate, and than starting over."""

from __future__ import annotations

from regraft.core.parts import Schedule
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.schedules.constant import constant
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds import stream


def arm(schedule: Schedule, *, base: bool = True) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = stream.base(seed) if base else stream.fresh(seed)
        stream.update(model, meter, seed, "code", schedule=schedule)
        loss = stream.losses(model, "prose", "code")
        return {"new loss": loss["code"], "old loss": loss["prose"]}

    return run


claim = Claim(
    says="re-warming and decaying again learns new text better than going on at the small final rate, at equal tokens, "
    "and better than training from scratch on it; the small rate keeps the old text better",
    setting="0.2M-parameter Llama trained on prose by one cosine, then source code: 300 updates of 1,024 tokens",
    arms={
        "re-warmed": arm(rewarm()),
        "small constant rate": arm(constant(value=stream.FLOOR)),
        "re-warmed without a rise or a fall": arm(rewarm(warmup=0.0, floor=1.0)),
        "constant": arm(constant()),
        "from scratch": arm(rewarm(), base=False),
    },
    tests=(
        Test("new loss", better="re-warmed", than="small constant rate", relative=0.02),
        Test("new loss", better="re-warmed", than="from scratch", relative=0.02),
        Test("old loss", better="small constant rate", than="re-warmed"),
    ),
    null=("re-warmed without a rise or a fall", "constant"),
)
