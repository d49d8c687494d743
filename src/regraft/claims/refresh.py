"""A little unlearning before each step, put on four learners."""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.evidence.claims import Arm, Claim, Test
from regraft.parts.gradients.refresh import refresh
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.ewc import ewc
from regraft.recipes.strategy import Strategy
from regraft.worlds.splits import Stream, lived, memory

LEARNERS: dict[str, tuple[Strategy, Stream]] = {
    "ER": (Strategy(memory()), "classes"),
    "DER++": (
        Strategy(
            memory(keep=("logits",)) + Plan(losses=(Weighted(distil(of="logits", by="mse"), 0.3, ("memory",)),)),
            (Weighted(nll(), 1.0, ("new",)), Weighted(nll(), 1.0, ("memory",))),
        ),
        "classes",
    ),
    "LwF": (Strategy(Plan(losses=(Weighted(distil(classes="known"), 1.0),))), "told"),
    "EWC": (Strategy(Plan(penalties=(Weighted(ewc(), 200.0),))), "inputs"),
}


def arm(name: str, delta: float | None) -> Arm:
    learner, stream = LEARNERS[name]
    put_on = Strategy() if delta is None else Strategy(Plan(gradients=(refresh(delta=delta),)))
    return lambda meter, seed: lived(learner + put_on, meter, seed, stream)


claim = Claim(
    says="put on four learners it costs none of them more than half a point of accuracy, and raises that of two",
    setting="digits in 5 tasks: 2 classes each, one head (ER, DER++; LwF told the task), or the pixels in another "
    "order (EWC); perceptron 64-256-256-10, SGD, 20 epochs of 32 new rows a batch; delta as in the authors' code",
    arms={
        **{name: arm(name, None) for name in LEARNERS},
        **{f"{name}, refreshed": arm(name, 1e-5) for name in LEARNERS},
        "ER, delta 0": arm("ER", 0.0),
    },
    tests=(
        *(Test("accuracy", f"{name}, refreshed", name, by=-0.005, lower_is_better=False) for name in LEARNERS),
        Test("accuracy", "ER, refreshed", "ER", lower_is_better=False),
        Test("accuracy", "DER++, refreshed", "DER++", lower_is_better=False),
    ),
    budget="updates",
    unequal=dict.fromkeys(("EWC", "EWC, refreshed"), "another stream, five times as long"),
    null=("ER, delta 0", "ER"),
    seeds=(0, 1, 2, 3, 4),
)
