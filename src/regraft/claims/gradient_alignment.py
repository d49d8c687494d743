"""How the gradients of old and new text align after an update with replay, with Reptile steps and without."""

from __future__ import annotations

from regraft.core.parts import GradientTransform
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.gradients.reptile import reptile
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.gradient_alignment import gradient_alignment
from regraft.parts.schedules.constant import constant
from regraft.worlds import stream
from regraft.worlds.offline import context

SAMPLE = 64


def arm(share: float, *gradients: GradientTransform) -> Arm:
    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = stream.base(seed)
        past: tuple[stream.Corpus, ...] = ("prose",) if share else ()
        stream.update(
            model, meter, seed, "code", past=past, share=share, schedule=constant(), gradients=gradients, steps=200
        )
        texts = {"new": stream.text("code").held, "old": stream.text("prose").held}
        data = {role: rows.take(slice(0, SAMPLE)) for role, rows in texts.items()}
        found = gradient_alignment(loss=nll())(model, context(model=model, data=data)).numbers
        losses = stream.losses(model, "prose", "code")
        return {
            "cosine": found["cosine"],
            "inner": found["inner"],
            "old loss": losses["prose"],
            "new loss": losses["code"],
        }

    return run


claim = Claim(
    says="the gradients of old and new text align better after replay with Reptile steps than after replay alone, and "
    "better after replay than without",
    setting="0.2M-parameter Llama trained on prose, then source code: 200 updates of 1,024 tokens at the base's peak "
    "rate, a quarter of them prose; k = 20, eps = 0.3; gradients on 64 held-out blocks of each",
    arms={
        "no replay": arm(0.0),
        "replay": arm(0.25),
        "replay + Reptile": arm(0.25, reptile(k=20, eps=0.3)),
        "eps 1": arm(0.25, reptile(k=20, eps=1.0)),
    },
    tests=(
        Test("cosine", "replay + Reptile", "replay", lower_is_better=False),
        Test("cosine", "replay", "no replay", lower_is_better=False),
    ),
    null=("eps 1", "replay"),
)
