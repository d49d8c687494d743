"""Checkpoints: a tree of tensors and plain values as one safetensors file and one JSON file, whole or not there at all.

    FOLDER/step-000000120/state.safetensors    every tensor of the tree, by number
    FOLDER/step-000000120/state.json           the tree with the tensors' numbers in it, and both digests

A checkpoint is written aside, synced and renamed. Reading verifies both digests; a damaged newest checkpoint is
reported and the one before it serves: the run then repeats some steps and ends in the same bits. Neither way is the
whole of it held in memory a second time: tensors are written one by one, and read by mapping the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store.tensorfile import header
from regraft.store.tensors import to_bytes as tensor_bytes


def pack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON values, its tensors put into `tensors` by number. Tuples and integer keys survive `unpack`."""
    if isinstance(tree, Tensor):
        tensors[name := str(len(tensors))] = tree.detach().cpu().contiguous()
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
    doc, chunks = _encoded(tree)
    final, aside = folder / f"step-{step:09d}", folder / f".step-{step:09d}.writing"
    try:
        for left in folder.glob(".step-*"):  # of a writer that was killed
            shutil.rmtree(left, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = _write(aside / "state.safetensors", chunks)
        text = json.dumps({"format": 1, "tensors": tensors, "tree": doc}, separators=(",", ":")).encode()
        _write(aside / "state.json", [hashlib.sha256(text).hexdigest().encode(), b"\n", text])
        _remove(final)
        os.replace(aside, final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RegraftError(
            f"cannot write a checkpoint: {(error.strerror or str(error)).lower()}",
            where=folder,
            do="Free space or fix the folder's rights, then --resume",
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        _remove(old)
    return final


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint in one step for every reader: a killed remover leaves no half of it under its name."""
    gone = checkpoint.with_name(f".{checkpoint.name}.gone")
    with suppress(OSError):
        os.replace(checkpoint, gone)
        shutil.rmtree(gone)


def load(path: Path) -> Any:
    """The tree of one checkpoint folder; DamagedStore names the file whose content is not what was written."""
    from safetensors.torch import load_file

    try:
        seal, _, text = (path / "state.json").read_bytes().partition(b"\n")
        with (path / "state.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedStore(f"cannot be read: {error.strerror}", where=error.filename or path) from error
    if hashlib.sha256(text).hexdigest().encode() != seal:
        raise DamagedStore("the content is not what was written", where=path / "state.json")
    doc = json.loads(text)
    if digest != doc["tensors"]:
        raise DamagedStore("the content is not what was written", where=path / "state.safetensors")
    tensors = {name: tensor.clone() for name, tensor in load_file(path / "state.safetensors").items()}
    return unpack(doc["tree"], tensors)  # copies: the file's places are not aligned, which changes bits of products


def to_bytes(tree: Any) -> bytes:
    """A small tree as bytes, for another process."""
    doc, chunks = _encoded(tree)
    text = json.dumps(doc).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *chunks])


def from_bytes(raw: bytes) -> Any:
    """The tree that `to_bytes` wrote."""
    from safetensors.torch import load

    stop = 8 + int.from_bytes(raw[:8], "little")
    return unpack(json.loads(raw[8:stop]), load(raw[stop:]))


def newest(folder: Path) -> tuple[Any | None, list[DamagedStore]]:
    """The newest whole checkpoint in `folder`, or None, and the damage met on the way to it."""
    damage: list[DamagedStore] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return load(path), damage
        except DamagedStore as error:
            damage.append(error)
    return None, damage


def damage(folder: Path) -> list[DamagedStore]:
    """What is not whole among the checkpoints below `folder`; those that are removed meanwhile do not count."""
    found = []
    for path in sorted(folder.rglob("step-*")):
        try:
            load(path)
        except DamagedStore as error:
            found += [error] if path.exists() else []
    return found


def _encoded(tree: Any) -> tuple[Any, list[bytes | memoryview]]:
    """The tree as JSON values, and the pieces of a safetensors file with its tensors, which are not copied."""
    tensors: dict[str, Tensor] = {}
    doc = pack(tree, tensors)
    parts = {name: tensor_bytes(tensor) for name, tensor in tensors.items()}
    return doc, [header({n: layout for n, (layout, _) in parts.items()}), *(values for _, values in parts.values())]


def _write(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Writes and syncs a file; the digest of its content."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
