"""A rate with no end follows a stream of texts better than re-warming for each, without the shock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regraft.core.parts import Schedule
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.schedules.infinite import infinite
from regraft.parts.schedules.rewarm import rewarm
from regraft.worlds import stream

STREAM: tuple[stream.Corpus, ...] = ("prose", "code", "packages")
SHARE = 0.05


def arm(schedule: Schedule) -> Arm:
    """The whole stream from random weights; each update goes on from the trunk of the one before, if it left one."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = stream.fresh(seed)
        trunk: dict[str, Any] | None = None
        memory: Mapping[str, Any] = {}
        spikes: list[float] = []
        for i, new in enumerate(STREAM):
            if trunk is not None:
                model.load(trunk["weights"])
            fitted = stream.update(
                model,
                meter,
                seed,
                new,
                past=STREAM[:i],
                share=SHARE,
                schedule=schedule,
                watch=("prose",) if i else (),
                watch_every=10,
                memory=memory,
                optimizer_state=trunk["optimizer"] if trunk is not None else None,
            )
            trunk, memory = fitted.trunk, fitted.memory
            spikes += [stream.spike(fitted, "prose")] if i else []
        loss = stream.losses(model, *STREAM)
        return {
            "mean loss": sum(loss.values()) / len(loss),
            "spike at the second update": spikes[0],
            "spike at the third update": spikes[1],
            **{f"loss on {name}": value for name, value in loss.items()},
        }

    return run


claim = Claim(
    says="over a stream of updates the infinite schedule, annealed for each release, ends at a mean loss over all "
    "texts no higher than re-warming each time, and the old loss rises by at least 30% less as update two starts",
    setting="0.2M-parameter Llama from random weights; prose, source of modules, source of packages: 300 updates of "
    "1,024 tokens each, 5% of every batch from the texts before",
    arms={
        "infinite": arm(infinite()),
        "re-warmed each time": arm(rewarm()),
    },
    tests=(
        Test("mean loss", better="infinite", than="re-warmed each time"),
        Test("spike at the second update", better="infinite", than="re-warmed each time", at_most_ratio=0.7),
    ),
)
