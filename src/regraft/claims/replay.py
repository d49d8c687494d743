"""A quarter of old text in every batch, at equal tokens, takes away most of the forgetting."""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.worlds import stream


def arm(share: float, past: tuple[stream.Corpus, ...] = ("prose",)) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = stream.base(seed)
        before = stream.losses(model, "prose")
        stream.update(model, meter, seed, "code", past=past, share=share)
        after = stream.losses(model, "prose", "code")
        return {
            "rise of the old loss": after["prose"] - before["prose"],
            "new loss": after["code"],
            "mean loss": (after["prose"] + after["code"]) / 2,
        }

    return run


claim = Claim(
    says="the old loss rises with 25% replay by at most 40% of what it rises without, at equal tokens",
    setting="0.2M-parameter Llama trained on prose, then source code: 300 updates of 1,024 tokens, re-warmed; what "
    "prose gets of a batch, code gives; the base is far from its best loss on prose, so that replay may even lower it",
    arms={
        "no replay": arm(0.0, past=()),
        "share 0": arm(0.0),
        "5%": arm(0.05),
        "25%": arm(0.25),
        "50%": arm(0.5),
    },
    tests=(
        Test("rise of the old loss", better="25%", than="no replay", at_most_ratio=0.4),
        Test("rise of the old loss", better="5%", than="no replay"),
        Test("mean loss", better="25%", than="no replay"),
    ),
    null=("share 0", "no replay"),
)
