"""YAML and JSON that people write, in which no key silently overwrites another."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import yaml


class Repeated(ValueError):
    """A key comes twice in one table."""


def from_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, and Repeated for a key that comes twice."""
    return yaml.load(text, Loader=_UniqueKeys)


def from_json(text: str) -> Any:
    """The value of a JSON text. Raises json.JSONDecodeError, and Repeated for a key that comes twice."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    table: dict[Any, Any] = {}
    for key, value in pairs:
        if key in table:
            raise Repeated(f"key {key!r} comes twice")
        table[key] = value
    return table


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        _unique([(key, None) for key in keys if isinstance(key, Hashable)])
        return super().construct_mapping(node, deep)
