"""Short forms: write the mathematics as a function; its keyword-only arguments become the part's knobs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import (
    Context,
    Edit,
    Loss,
    Measurement,
    Metric,
    Model,
    Progress,
    Schedule,
    Transform,
    View,
    Weights,
)
from regraft.core.rows import Rows

P = ParamSpec("P")
T = TypeVar("T")


class Spec:
    """A function with its knobs bound: comparable, printable, hashable, and the same every time it is built."""

    def __init__(self, make: Callable[..., Any], knobs: dict[str, Any]) -> None:
        self.make, self.name = make, make.__name__
        known = {n: p for n, p in inspect.signature(make).parameters.items() if p.kind is p.KEYWORD_ONLY}
        if unknown := sorted(set(knobs) - set(known)):
            raise RegraftError(f"{self.name} has no knob {', '.join(unknown)}; it has {sorted(known)}")
        self.knobs = {n: knobs.get(n, p.default) for n, p in known.items()}
        if missing := [n for n, v in self.knobs.items() if v is inspect.Parameter.empty]:
            raise RegraftError(f"{self.name} needs {', '.join(missing)}")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.knobs.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.make, self.knobs) == (other.make, other.knobs)

    def __hash__(self) -> int:
        return hash((self.make, repr(self)))


class _LossSpec(Spec):
    """A loss written as a function.

    The knob `per` means the same in every loss: rows weigh one each, or as their targets.
    """

    def begin(self, ctx: Context) -> _LossSpec:
        return self

    def loss(self, view: View) -> Tensor:
        return cast(Tensor, self.make(view, **self.knobs))

    def weight(self, view: View) -> Tensor | None:
        return view.size if self.knobs.get("per") == "token" else None


class _ScheduleSpec(Spec):
    def begin(self, ctx: Context) -> _ScheduleSpec:
        return self

    def __call__(self, progress: Progress) -> float:
        return float(self.make(progress, **self.knobs))


class _CallSpec(Spec):
    def __call__(self, subject: Any, ctx: Context) -> Any:
        return self.make(subject, ctx, **self.knobs)


class _EditSpec(Spec):
    def begin(self, ctx: Context) -> _Edited:
        return _Edited(self, ctx)


class _Edited:
    def __init__(self, spec: Spec, ctx: Context) -> None:
        self.spec, self.ctx = spec, ctx

    def edit(self, weights: Weights) -> Weights:
        return cast(Weights, self.spec.make(weights, self.ctx, **self.spec.knobs))


def knobbed(kind: type[Spec], make: Callable[..., Any]) -> Any:
    """What makes specs of a kind from a function's keyword-only arguments, its knobs."""

    def part(**knobs: Any) -> Spec:
        return kind(make, knobs)

    knobs = [p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    part.__name__, part.__doc__, part.__module__ = make.__name__, make.__doc__, make.__module__
    part.__signature__ = inspect.Signature(knobs)  # type: ignore[attr-defined]
    return part


def loss(make: Callable[Concatenate[View, P], Tensor]) -> Callable[P, Loss]:
    """A loss from `(view, *, knobs) -> [rows]`."""
    return cast(Callable[P, Loss], knobbed(_LossSpec, make))


def schedule(make: Callable[Concatenate[Progress, P], float]) -> Callable[P, Schedule]:
    """A schedule from `(progress, *, knobs) -> float`."""
    return cast(Callable[P, Schedule], knobbed(_ScheduleSpec, make))


def transform(make: Callable[Concatenate[Rows, Context, P], Rows]) -> Callable[P, Transform]:
    """A transform from `(rows, ctx, *, knobs) -> rows`."""
    return cast(Callable[P, Transform], knobbed(_CallSpec, make))


def edit(make: Callable[Concatenate[Weights, Context, P], Weights]) -> Callable[P, Edit]:
    """An edit from `(weights, ctx, *, knobs) -> weights`."""
    return cast(Callable[P, Edit], knobbed(_EditSpec, make))


def metric(make: Callable[Concatenate[Model, Context, P], Measurement]) -> Callable[P, Metric]:
    """A metric from `(model, ctx, *, knobs) -> measurement`."""
    return cast(Callable[P, Metric], knobbed(_CallSpec, make))
