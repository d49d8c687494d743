"""Parts by name: what a recipe file says, as the part it means."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import AllowInfNan, BaseModel, TypeAdapter, ValidationError

from regraft.core.define import Spec
from regraft.core.errors import RegraftError, nearest
from regraft.core.parts import Loss, Reference, Sampler, Schedule, Transform
from regraft.evidence.cards import BESIDE_PARTS, KINDS, cards


def part(kind: str, said: Any, where: str) -> Any:
    """The part that a recipe names: `"rewarm"`, or `{"rewarm": {"warmup": 0.02}}` with knobs. Parts given as such pass.

    Args:
        kind: the folder of its kind: schedules, samplers, losses, ...
        where: the recipe's key, for the error.
    """
    if said is None or isinstance(said, bool | int | float | list | tuple):
        raise RegraftError(f"a part is named, or a name with knobs, not {said!r}", where=where)
    if not isinstance(said, str | dict):
        if not hasattr(said, "begin") and not callable(said):
            raise RegraftError(f"a part is named, or a name with knobs, not {said!r}", where=where)
        return said
    if isinstance(said, dict) and len(said) != 1:
        raise RegraftError(f"one part is named by one key, not by {sorted(map(str, said))}", where=where)
    [(name, knobs)] = [(said, {})] if isinstance(said, str) else said.items()
    name = str(name)
    known = modules(kind)
    if name not in known:
        raise RegraftError(f"no part {name!r} among the {kind}{nearest(name, known)}", where=where)
    if not isinstance(knobs or {}, dict):
        raise RegraftError(f"the knobs of {name!r} are a mapping, not {knobs!r}", where=where)
    make = getattr(importlib.import_module(known[name]), name)
    accepts = inspect.signature(make).parameters
    knobs = {str(knob): value for knob, value in (knobs or {}).items()}
    for knob in knobs:
        if knob not in accepts:
            hint = nearest(knob, accepts) or f"; it has {sorted(accepts)}"
            raise RegraftError(f"{name} has no knob {knob!r}{hint}", where=where)
    values = {k: _knob(make, accepts[k], v, f"{where}.{name}.{k}") for k, v in knobs.items()}
    try:
        return make(**values)
    except (TypeError, ValueError) as error:
        raise RegraftError(f"{name} cannot be made: {error}", where=where) from None


_KINDS = {
    Schedule: "schedules",
    Loss: "losses",
    Sampler: "samplers",
    Transform: "transforms",
    Reference: "references",
}


def _knob(make: Any, parameter: inspect.Parameter, said: Any, where: str) -> Any:
    """A knob's value: a part, where the signature asks for one and a name is given, else of the signature's type.

    Where it also takes a text (another model's role), one that names no part is that text."""
    asked = SimpleNamespace(__annotations__={"knob": parameter.annotation})
    wanted = get_type_hints(asked, vars(sys.modules[make.__module__]))["knob"]
    among = (wanted, *get_args(wanted))
    kind = next((kind for cls, kind in _KINDS.items() if any(each is cls for each in among)), None)
    role = str in among and isinstance(said, str) and kind is not None and said not in modules(kind)
    if kind is not None and isinstance(said, str | dict) and not role:
        return part(kind, said, where)
    value = tuple(said) if isinstance(said, list) else said
    return value if kind is not None else _typed(wanted, value, where)


def _typed(wanted: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(Annotated[wanted, AllowInfNan(False)] if wanted is float else wanted).validate_python(value)
    except ValidationError as error:
        raise RegraftError(f"{error.errors()[0]['msg'].lower()}, not {value!r}", where=where) from None


_WORDS = {"list_type": "must be a list", "tuple_type": "must be a list", "dict_type": "must be a mapping"}


def refused(error: ValidationError, where: object, model: type[BaseModel]) -> RegraftError:
    """The first thing that a file says wrongly of a model, on one line."""
    first = error.errors()[0]
    loc, kind = first["loc"], first["type"]
    if kind == "extra_forbidden":
        known, key = _keys(model, loc[:-1]), str(loc[-1])
        place = "".join(f"{step}." for step in loc[:-1]).removesuffix(".")
        what = f"{place}{': ' if place else ''}no key {key!r}{nearest(key, known)}"
        return RegraftError(what, where=where, do=f"Keys: {', '.join(known)}")
    if kind == "missing":
        return RegraftError(f"{'.'.join(map(str, loc[:-1])) or 'the file'} has no key {loc[-1]!r}", where=where)
    said = _WORDS.get(kind) or first["msg"].removeprefix("Value error, ")
    value = f", not {first['input']!r}" if kind != "value_error" else ""
    return RegraftError(f"{'.'.join(map(str, loc))}: {said[:1].lower()}{said[1:]}{value}", where=where)


def _keys(model: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys at a place in a model."""
    for step in loc:
        fields_of = getattr(model, "model_fields", None)
        model = get_args(model)[-1] if fields_of is None else fields_of[step].annotation
        if type(None) in (among := get_args(model)):
            model = next(each for each in among if each is not type(None))
    return list(model.model_fields)


def modules(kind: str) -> dict[str, str]:
    """The methods of a kind, by the files in its folder: name -> module. Packages named by the entry point group
    `regraft.parts` have folders like ours; ours come first."""
    ours = "regraft" if kind in BESIDE_PARTS else "regraft.parts"
    packages = [ours, *(point.value for point in entry_points(group="regraft.parts"))]
    found: dict[str, str] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(folder, kind).glob("*.py")):
                if not file.stem.startswith("_"):
                    found.setdefault(file.stem, f"{package}.{kind}.{file.stem}")
    return found


def no_strategy(name: str) -> RegraftError:
    """The error for a name that is no strategy's: what it is, if it is a part, and which strategies have it."""
    known = modules("strategies")
    kind = next((kind for folder, kind in KINDS.items() if folder != "strategies" and name in modules(folder)), None)
    if kind is None:
        return RegraftError(f"no strategy {name!r}{nearest(name, known)}", do="`regraft methods` lists them")
    its = re.compile(rf"^from [\w.]+\.{name} import", re.MULTILINE)
    using = [c.name for c in cards() if c.kind == "strategy" and its.search(c.path.read_text(encoding="utf-8"))]
    article = "an" if kind[0] in "aeiou" else "a"
    do = f"Strategies that use it: {', '.join(using)}" if using else "`regraft methods` lists the strategies"
    return RegraftError(f"{name} is {article} {kind}, not a strategy", do=do)


def described(thing: Any) -> Any:
    """A part, plan or setting as JSON values, for the record: name and knobs, all the way down."""
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
