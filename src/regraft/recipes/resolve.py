"""Parts by name: what a recipe file says, as the part it means."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import regraft.parts
from regraft.core.errors import RegraftError, nearest


def part(kind: str, said: Any, where: str) -> Any:
    """The part that a recipe names: `"rewarm"`, or `{"rewarm": {"warmup": 0.02}}` with knobs. Parts given as such pass.

    Args:
        kind: the folder of its kind: schedules, samplers, losses, ...
        where: the recipe's key, for the error.
    """
    if said is None or isinstance(said, bool | int | float | list | tuple):
        raise RegraftError(f"a part is named, or a name with knobs, not {said!r}", where=where)
    if not isinstance(said, str | dict):
        return said
    if isinstance(said, dict) and len(said) != 1:
        raise RegraftError(f"one part is named by one key, not by {sorted(said)}", where=where)
    [(name, knobs)] = [(said, {})] if isinstance(said, str) else said.items()
    known = names(kind)
    if name not in known:
        raise RegraftError(f"no part {name!r} among the {kind}{nearest(name, known)}", where=where)
    if not isinstance(knobs or {}, dict):
        raise RegraftError(f"the knobs of {name!r} are a mapping, not {knobs!r}", where=where)
    make = getattr(importlib.import_module(f"regraft.parts.{kind}.{name}"), name)
    accepts = inspect.signature(make).parameters
    for knob in knobs or {}:
        if knob not in accepts:
            hint = nearest(knob, accepts) or f"; it has {sorted(accepts)}"
            raise RegraftError(f"{name} has no knob {knob!r}{hint}", where=where)
    return make(**(knobs or {}))


def names(kind: str) -> list[str]:
    """The parts of a kind, by the files in its folder."""
    folders = [Path(p, kind) for p in regraft.parts.__path__]
    return sorted(f.stem for folder in folders for f in folder.glob("*.py") if f.stem != "__init__")


def described(thing: Any) -> Any:
    """A part, plan or setting as JSON values, for the record: name and knobs, all the way down."""
    from dataclasses import fields, is_dataclass

    from regraft.core.define import Spec

    if isinstance(thing, Spec):
        return {thing.name: {k: described(v) for k, v in thing.knobs.items()}}
    if is_dataclass(thing) and not isinstance(thing, type):
        return {type(thing).__name__: {f.name: described(getattr(thing, f.name)) for f in fields(thing)}}
    if isinstance(thing, dict):
        return {str(k): described(v) for k, v in thing.items()}
    if isinstance(thing, list | tuple):
        return [described(v) for v in thing]
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    return repr(thing)
