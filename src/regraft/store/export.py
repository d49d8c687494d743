"""A version as a plain Hugging Face folder: whole or absent, never mixed with what was there before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from regraft.core.errors import RegraftError
from regraft.store.blobs import Blobs
from regraft.store.documents import JSON
from regraft.store.files import aside, inside, one_clear_error, sync_folder, write_synced
from regraft.store.folder import INDEX, LINEAGE, SINGLE, is_weights
from regraft.store.line import Line, Ref
from regraft.store.tensorfile import KINDS, header
from regraft.store.versions import TensorRef, Version


def export(
    line: Line,
    version: Ref,
    target: str | os.PathLike[str],
    *,
    bundle: str = "release",
    max_shard_bytes: float = 5e9,
    overwrite: bool = False,
) -> Path:
    """Write a folder that transformers, vLLM and llama.cpp's converter read, with no regraft installed.

    It holds model.safetensors, or shards of at most `max_shard_bytes` (a tensor larger than that has its own) and
    their index; the version's files; `regraft-version.json` with its lineage. Every tensor is verified as it is copied,
    memory does not grow with the model, and the folder is written aside and renamed.

    Args:
        overwrite: replace an earlier export. A kill between the two renames leaves no folder rather than a mixed one;
            both whole ones then lie beside it.

    Raises:
        RegraftError: the target is there and not empty, or not an earlier export; a file of the version has a path
            outside the folder or the name of weights; the target cannot be written.
        DamagedStore: a stored file is not whole; nothing is left behind.
    """
    folder, found = Path(os.path.abspath(target)), line.version(version)
    _check_target(folder, overwrite)
    refs = line.bundle(found, bundle)
    taken = {name for name in found.files if is_weights(inside(name, folder)) or name == LINEAGE}
    if taken:
        raise RegraftError(f"a file of {found.name} has a name that the export needs: {min(taken)}", where=folder)
    with one_clear_error(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = aside(folder)
        try:
            draft.mkdir()
            _write_tensors(line.blobs, refs, draft, max_shard_bytes)
            for name, digest in found.files.items():
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                write_synced(draft / name, line.blobs.stream(digest))
            write_synced(draft / LINEAGE, [_pretty(_lineage(found, bundle))])
            sync_folder(draft)
            _put_in_place(draft, folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return folder


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / LINEAGE).is_file():
        what = "the folder is not empty, and old weights beside new ones would load"
        raise RegraftError(what, where=folder, do="Choose a new folder")
    if not overwrite:
        raise RegraftError("there is an earlier export here", where=folder, do="Choose a new folder or overwrite it")


def _put_in_place(draft: Path, folder: Path) -> None:
    old = aside(folder)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write_tensors(blobs: Blobs, refs: Mapping[str, TensorRef], folder: Path, limit: float) -> None:
    shards = list(_shards(refs, limit))
    if len(shards) == 1:
        write_synced(folder / SINGLE, _shard(blobs, refs, shards[0]))
        return
    where: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_synced(folder / file, _shard(blobs, refs, names))
        where |= dict.fromkeys(names, file)
    total = sum(ref.bytes for ref in refs.values())
    write_synced(folder / INDEX, [_pretty({"metadata": {"total_size": total}, "weight_map": where})])


def _shards(refs: Mapping[str, TensorRef], limit: float) -> Iterator[list[str]]:
    """Names in order, as many to a shard as fit."""
    names: list[str] = []
    size = 0
    for name in sorted(refs):
        if names and size + refs[name].bytes > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += refs[name].bytes
    yield names


def _shard(blobs: Blobs, refs: Mapping[str, TensorRef], names: Iterable[str]) -> Iterator[bytes | memoryview]:
    """The content of one file; wide dtypes first, so that every tensor is aligned to its own words."""
    order = sorted(names, key=lambda name: (-KINDS[refs[name].dtype].size, name))
    yield header({name: refs[name].layout for name in order}, {"format": "pt"})
    for name in order:
        ref = refs[name]
        skip = blobs.size(ref.digest) - ref.bytes
        for chunk in blobs.stream(ref.digest):
            yield chunk[skip:]
            skip = max(0, skip - len(chunk))


def _lineage(version: Version, bundle: str) -> JSON:
    return {
        "regraft": "This folder was exported from a regraft line; transformers reads it without regraft.",
        "version": version.id,
        "number": version.number,
        "bundle": bundle,
        "parents": version.parents,
        "message": version.message,
        "committed": version.time,
        "evidence": version.evidence,
    }


def _pretty(document: JSON) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
