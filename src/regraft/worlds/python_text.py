"""English and code that every Python carries: the language reference, docstrings, the standard library's source."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

Document: TypeAlias = dict[str, str]
Area: TypeAlias = Literal["modules", "packages"]

_LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__", "_pyrepl", "pydoc_data"}
_SHORTEST, _LONGEST = 200, 6000


def reference() -> list[Document]:
    """The topics of Python's language reference, cut at section breaks: `text`, `source`, `name`."""
    from pydoc_data.topics import topics

    return [
        {"name": f"{topic}/{i}", "source": "reference", "text": piece}
        for topic, text in sorted(topics.items())
        for i, piece in enumerate(_pieces(text))
    ]


def docstrings() -> list[Document]:
    """The longer docstrings of the standard library's public modules, classes and functions."""
    found = []
    for name, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                own = f"{name}:{getattr(node, 'name', '')}"
                found += [{"name": own, "source": "docstrings", "text": piece} for piece in _pieces(text)]
    return _once(found)


def source(area: Area) -> list[Document]:
    """Standard-library source, one document a top-level class or function: of single modules, or of packages."""
    found = []
    for name, tree, text in _sources():
        if ("/" in name) != (area == "packages"):
            continue
        lines = text.splitlines(keepends=True)
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                piece = "".join(lines[first - 1 : node.end_lineno])[:_LONGEST]
                if len(piece) >= _SHORTEST:
                    found.append({"name": f"{name}:{node.name}", "source": f"source of {area}", "text": piece})
    return _once(found)


def sample(documents: list[Document], characters: int) -> list[Document]:
    """Documents in an order that a hash of their text gives, up to so many characters:

    the same choice on every machine.
    """
    chosen, total = [], 0
    for document in sorted(documents, key=lambda d: hashlib.sha256(d["text"].encode()).digest()):
        if total >= characters:
            break
        chosen.append(document)
        total += len(document["text"])
    return chosen


@cache
def _sources() -> list[tuple[str, ast.Module, str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if _LEFT_OUT.isdisjoint(name.parts) and not any(p.startswith("config-") for p in name.parts):
            try:
                text = path.read_text(encoding="utf-8")
                found.append((name.as_posix(), ast.parse(text), text))
            except (UnicodeDecodeError, SyntaxError):
                continue
    return found


def _modules() -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree, _ in _sources())


def _pieces(text: str) -> Iterator[str]:
    """Text cut at blank lines into pieces of at most `_LONGEST` characters, without those too short to learn from."""
    piece = ""
    for paragraph in text.split("\n\n"):
        if piece and len(piece) + len(paragraph) > _LONGEST:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}".strip("\n") if piece else paragraph
    if len(piece) >= _SHORTEST:
        yield piece[:_LONGEST]


def _once(documents: list[Document]) -> list[Document]:
    return list({d["text"]: d for d in documents}.values())
