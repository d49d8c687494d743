"""The recipe's page and JSON schema, written from the recipe itself: `python -m regraft.recipes.pages [--check]`."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from regraft.evidence.pages import keep_up
from regraft.recipes.learn import learn
from regraft.recipes.practise import practise

HEAD = """# Recipe files

A recipe file is YAML: `recipe:` and the knobs below; what is left out is chosen, and the choice is printed with its
reason. It is not a language: no conditions, no variables. One knob on the command line is `--set key=value`.
A part is its name, or its name with knobs: `schedule: rewarm`, `schedule: {rewarm: {warmup: 0.02}}`; a part may be
another's knob: `sampler: {temperature: {tau: {cooldown: {}}}}`. `regraft methods NAME` shows a part's knobs. Editors
read [recipe.schema.json](recipe.schema.json).
"""
TABLE = """
## {name}: {says}

| knob | type | default | what it is |
|---|---|---|---|
"""
RECIPES: dict[str, tuple[type[BaseModel], str]] = {
    "learn": (learn, "new text, with `--data`"),
    "practise": (practise, "skills, with `--skills`"),
}


def written() -> dict[str, str]:
    """The files of docs/ by name."""
    schemas, page = [], HEAD
    for name, (recipe, says) in RECIPES.items():
        schema: dict[str, Any] = recipe.model_json_schema()
        schema["properties"] = {"recipe": {"const": name}, **schema["properties"]}
        rows = [_row(knob, field) for knob, field in schema["properties"].items() if knob != "recipe"]
        page += TABLE.format(name=name, says=says) + "\n".join(rows) + "\n"
        schemas.append({**schema, "required": [] if name == "learn" else ["recipe"]})
    text = json.dumps({"anyOf": schemas}, indent=1, ensure_ascii=False) + "\n"
    return {"recipe.md": page, "recipe.schema.json": text}


def _row(name: str, field: dict[str, object]) -> str:
    default = field.get("default")
    shown = "chosen" if default is None else f"`{json.dumps(default)}`"
    return f"| `{name}` | {_type(field)} | {shown} | {field.get('description', '')} |"


def _type(field: dict[str, object]) -> str:
    several = field.get("anyOf")
    if isinstance(several, list):
        return " or ".join(_type(each) for each in several if each.get("type") != "null")
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])  # type: ignore[attr-defined]
    return str(field.get("type", "part"))


if __name__ == "__main__":
    sys.exit(keep_up(written(), sys.argv[1:]))
