"""A language model that is taught a base, lives a stream, and is asked for several scores after each of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.recipes.strategy import Strategy, live


def taught(model: CausalLM, rows: Rows, training: Training) -> CausalLM:
    """The model, trained on the rows by a rate that ends at zero; what that costs is counted for no arm."""
    plan = Plan((Feed("base", shuffled("base")),), (Weighted(nll()),), lr=rewarm(floor=0.0))
    with one_thread():
        fit(model, plan, {"base": rows}, training)
    return model


def scores(
    model: CausalLM,
    tasks: Scenario,
    strategy: Strategy,
    training: Training,
    scored: Callable[[CausalLM, Rows], Mapping[str, float]],
    *,
    steps: int,
    meter: Meter | None,
) -> dict[str, NDArray[np.float64]]:
    """What `scored` says of every test: each score [tasks + 1, tasks], before the first task and after each.

    Args:
        steps: of each task; all have as many rows.
    """

    def ask(*_: object) -> None:
        found.append([scored(model, task.test) for task in tasks.tasks])

    found: list[list[Mapping[str, float]]] = []
    epochs = steps * training.batch / tasks.tasks[0].train.count
    with one_thread():
        ask()
        live(model, tasks, strategy, training, epochs=epochs, meter=meter, on_task=ask)
    return {name: np.array([[test[name] for test in version] for version in found]) for name in found[0][0]}
