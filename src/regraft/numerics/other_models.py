"""Other models that a loss reads a batch through."""

from __future__ import annotations

from collections.abc import Callable

from regraft.core.parts import Context, Reference, ReferenceRun, View


def other_model(which: str | Reference, ctx: Context) -> Callable[[View], View]:
    """The same rows, as the model of a role sees them, or a reference that moves."""
    if isinstance(which, str):
        role = which
        ctx.models[role]  # `before` is copied when it is asked for first
        return lambda view: view.by(role)
    run: ReferenceRun = ctx.begin(which)
    return lambda view: view.by(run.model)
