"""Checkpoints: a tree of tensors and plain values as one safetensors file and one JSON file, whole or not there at all.

    FOLDER/step-000000120/state.safetensors    every tensor of the tree, by number
    FOLDER/step-000000120/state.json           the tree with the tensors' numbers in it, and both digests

A checkpoint is written aside, synced and renamed. Reading verifies both digests; a damaged newest checkpoint is reported and the
one before it serves: the run then repeats some steps and ends in the same bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import DamagedStore, RegraftError


def pack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON values, its tensors moved to `tensors` by number. Tuples, integer keys and tensors survive `unpack`."""
    if isinstance(tree, Tensor):
        tensors[name := str(len(tensors))] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        return {"map": [[k, pack(v, tensors)] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"tuple" if isinstance(tree, tuple) else "list": [pack(v, tensors) for v in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"is": tree}
    raise RegraftError(f"a checkpoint cannot hold a {type(tree).__name__}: {tree!r}")


def unpack(doc: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `pack` took apart."""
    [(kind, value)] = doc.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "map":
        return {k: unpack(v, tensors) for k, v in value}
    if kind in ("list", "tuple"):
        items = [unpack(v, tensors) for v in value]
        return tuple(items) if kind == "tuple" else items
    return value


def save(folder: Path, step: int, tree: Any, *, keep: int = 2) -> Path:
    """Writes the checkpoint of `step` and removes all but the newest `keep`."""
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    doc = pack(tree, tensors)
    raw = to_bytes(tensors)
    text = json.dumps({"format": 1, "tensors": hashlib.sha256(raw).hexdigest(), "tree": doc}, separators=(",", ":"))
    final, aside = folder / f"step-{step:09d}", folder / f".step-{step:09d}.writing"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _write(aside / "state.safetensors", raw)
        _write(aside / "state.json", f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RegraftError(
            f"cannot write a checkpoint: {error.strerror}",
            where=folder,
            do="Free space or fix the folder's rights, then --resume",
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(path: Path) -> Any:
    """The tree of one checkpoint folder; DamagedStore names the file whose content is not what was written."""
    from safetensors.torch import load as from_bytes

    try:
        seal, _, text = (path / "state.json").read_text().partition("\n")
        raw = (path / "state.safetensors").read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedStore(f"unreadable checkpoint: {error}", where=path) from error
    if hashlib.sha256(text.encode()).hexdigest() != seal:
        raise DamagedStore("the content is not what was written", where=path / "state.json")
    doc = json.loads(text)
    if hashlib.sha256(raw).hexdigest() != doc["tensors"]:
        raise DamagedStore("the content is not what was written", where=path / "state.safetensors")
    return unpack(doc["tree"], from_bytes(raw))


def newest(folder: Path) -> tuple[Any | None, list[DamagedStore]]:
    """The newest whole checkpoint in `folder`, or None, and the damage met on the way to it."""
    damage: list[DamagedStore] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return load(path), damage
        except DamagedStore as error:
            damage.append(error)
    return None, damage


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def random_state() -> dict[str, Tensor]:
    """The state of torch's own generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Puts torch's own generators where `random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
