"""Other models that a loss reads a batch through."""

from __future__ import annotations

from collections.abc import Callable

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Reference, ReferenceRun, View


def other_model(which: str | Reference, ctx: Context) -> Callable[[View], View]:
    """The same rows, as the model of a role sees them, or a reference that moves."""
    if isinstance(which, str):
        role = which
        ctx.models[role]  # `before` is copied when it is asked for first
        return lambda view: view.by(role)
    run: ReferenceRun = ctx.begin(which)
    return lambda view: view.by(run.model)


def in_role(role: str, ctx: Context, part: str) -> Model:
    """The model in a role, or an error that lists the roles there are; `part` is who asks."""
    if role not in ctx.models:
        raise RegraftError(f"{part}: no model in the role {role!r}; there are {sorted(ctx.models)}")
    return ctx.models[role]
