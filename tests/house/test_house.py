"""The building: imports go down, every folder keeps its manners, commands start light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "regraft"

BELOW = {
    "core": (),
    "numerics": ("core",),
    "models": ("core",),
    "data": ("core",),
    "store": ("core",),
    "parts": ("core", "numerics"),
    "engine": ("core", "numerics", "models", "store"),
    "evidence": ("core", "numerics", "models", "data", "store", "engine"),
    "recipes": ("core", "numerics", "models", "data", "store", "parts", "engine", "evidence"),
    "strategies": ("core", "parts", "recipes"),
    "repairs": ("core", "numerics", "parts", "recipes"),
    "worlds": ("core", "numerics", "models", "data", "store", "parts", "engine", "evidence", "recipes"),
    "claims": (
        "core",
        "numerics",
        "models",
        "data",
        "store",
        "parts",
        "engine",
        "evidence",
        "recipes",
        "strategies",
        "repairs",
        "worlds",
    ),
    "report": ("core", "numerics", "models", "data", "store", "parts", "engine", "evidence", "recipes"),
}
FILES = sorted(p for p in SOURCE.rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
            if node.module == "regraft":
                found += [(node.lineno, f"regraft.{a.name}") for a in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_folder_imports_only_from_floors_below(path: Path) -> None:
    floor = path.relative_to(SOURCE).parts[0]
    if floor not in BELOW:
        return
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] != "regraft" or len(parts) < 2 or parts[1] == floor:
            continue
        assert parts[1] in BELOW[floor], f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", sorted((SOURCE / "parts").rglob("*.py")), ids=lambda p: p.stem)
def test_a_part_never_imports_a_part(path: Path) -> None:
    assert not [f"{path}:{line} {name}" for line, name in imports(path) if name.startswith("regraft.parts")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_is_unpickled(path: Path) -> None:
    names = {name.split(".")[0] for _, name in imports(path)}
    assert not names & {"pickle", "dill", "joblib", "shelve", "cloudpickle"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("command", [["--help"], ["methods"], ["methods", "--json"], ["log", "{line}"]])
def test_a_command_that_needs_no_torch_does_not_import_it(command: list[str], tmp_path: Path) -> None:
    from regraft.store import Line

    line = Line.create(tmp_path / "line")
    argv = ["regraft", *(c.format(line=line.path) for c in command)]
    code = (
        "import sys\n"
        f"sys.argv = {argv!r}\n"
        "from regraft.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
