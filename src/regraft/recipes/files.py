"""Recipe files: YAML that names a recipe and sets its knobs. Not a language: no conditions, no variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from regraft.core.errors import RegraftError, nearest
from regraft.recipes.learn import learn


def read_recipe(path: Path) -> dict[str, Any]:
    """The knobs of a recipe file; its key `recipe`, if there, says `learn`.

    Raises RegraftError for a file that is not a YAML mapping, with line and column.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RegraftError(f"cannot be read: {error}", where=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise RegraftError(f"not YAML: {getattr(error, 'problem', error)}", where=where) from None
    if not isinstance(said, dict):
        raise RegraftError(f"a recipe is a mapping of knobs, not a {type(said).__name__}", where=path)
    recipe = said.pop("recipe", "learn")
    if recipe != "learn":
        raise RegraftError(f"no recipe {recipe!r}{nearest(str(recipe), ['learn'])}", where=path)
    return said


def check(knobs: Mapping[str, Any], where: str) -> None:
    """Raises RegraftError for the first knob that the recipe does not have or that has a wrong value."""
    for key in knobs:
        if key not in learn.model_fields:
            hint = nearest(str(key), learn.model_fields) or f"; it has {sorted(learn.model_fields)}"
            raise RegraftError(f"learn has no knob {key!r}{hint}", where=where)
    try:
        learn(**knobs)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RegraftError(f"{key}: {first['msg'].lower()}, not {first['input']!r}", where=where) from None
