"""Recipe files: YAML that names a recipe and sets its knobs. Not a language: no conditions, no variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from regraft.core.errors import RegraftError, nearest
from regraft.core.names import regular_file
from regraft.core.written import Repeated, from_yaml
from regraft.recipes.learn import learn
from regraft.recipes.resolve import refused

RECIPES = ("learn", "practise")


class Said(BaseModel):
    """A mapping of a recipe file: no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def beside(home: Path, source: str) -> str:
    """A file or folder beside the recipe, or whatever else the name says."""
    path = home / source
    return str(path) if path.exists() else source


@contextmanager
def told(where: str) -> Iterator[None]:
    """Errors begin with where the recipe says what they are about."""
    try:
        yield
    except RegraftError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        raise RegraftError(what, where=where, do=error.do) from None


def read_recipe(path: Path, wanted: str = "learn") -> dict[str, Any]:
    """The knobs of a recipe file; its key `recipe`, if there, says which.

    Raises RegraftError for a file that is not a YAML mapping, with line and column, and for another recipe.
    """
    said = read_mapping(path)
    recipe = said.pop("recipe", wanted)
    if recipe not in RECIPES:
        raise RegraftError(f"no recipe {recipe!r}{nearest(str(recipe), RECIPES)}", where=path)
    if recipe != wanted:
        raise RegraftError(f"this is a file for {recipe}, and the command asks for {wanted}", where=path)
    return said


def read_mapping(path: Path) -> dict[str, Any]:
    """What a YAML file says, which must be a mapping; RegraftError with line and column if it is none."""
    regular_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RegraftError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError as error:
        raise RegraftError(f"not UTF-8: byte {error.start}", where=path) from None
    said = parse_yaml(text, where=str(path))
    if not isinstance(said, dict):
        raise RegraftError(f"a recipe is a mapping of knobs, not a {type(said).__name__}", where=path)
    return said


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; RegraftError with line and column if it is none."""
    try:
        return from_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise RegraftError(f"not YAML: {error.problem or error.context}", where=place) from None
    except Repeated as error:
        raise RegraftError(str(error), where=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RegraftError(f"not YAML: {error}", where=where) from None


def check(knobs: Mapping[str, Any], where: str, recipe: type[BaseModel] = learn) -> None:
    """Raises RegraftError for the first knob that the recipe does not have or that has a wrong value."""
    for key in knobs:
        if key not in recipe.model_fields:
            hint = nearest(str(key), recipe.model_fields) or f"; it has {sorted(recipe.model_fields)}"
            raise RegraftError(f"{recipe.__name__} has no knob {key!r}{hint}", where=where)
    try:
        recipe(**knobs)
    except ValidationError as error:
        raise refused(error, where, recipe) from None
