"""Reading a Hugging Face folder: its safetensors and its small files; nothing in it is executed or unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.core.errors import RegraftError
from regraft.store.files import inside

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX, LINEAGE = "model.safetensors", "model.safetensors.index.json", "regraft-version.json"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_WEIGHTS = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin.index.json",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    *_PICKLES,
)
_KEPT = (".json", ".txt", ".model", ".jinja", ".md", ".tiktoken", ".spm", ".vocab")
_KEPT_NAMES = ("LICENSE", "NOTICE", "LICENCE", "USE_POLICY")


def is_weights(name: str) -> bool:
    """Whether the file would be taken for weights beside those of an export."""
    return name.endswith(_WEIGHTS)


def read_folder(
    path: str | os.PathLike[str], *, trust_remote_code: bool = False
) -> tuple[dict[str, Path], Iterator[tuple[str, Tensor]]]:
    """The files to keep with a model, by name, and its tensors, one at a time, in order of file and name.

    The folder is checked before this returns: every shard is there, readable, and holds what the index says.

    Args:
        trust_remote_code: keep the Python files at the top of the folder. They are copied, not run.

    Raises:
        RegraftError: no folder, no weights, weights in pickle alone, a missing shard or tensor, an index that
            contradicts its shards or names a path outside the folder.
    """
    folder = Path(path)
    places = _places(folder)
    return list_files(folder, trust_remote_code=trust_remote_code)[0], _tensors(folder, places)


def list_files(
    path: str | os.PathLike[str], *, trust_remote_code: bool = False
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files beside the weights, by name: those kept with a model (configuration, tokenizer, texts), and those
    skipped (other kinds of weights, code, whatever is unknown)."""
    folder = Path(path)
    code = _remote_code(folder) if trust_remote_code else set()
    kept: dict[str, Path] = {}
    skipped: dict[str, Path] = {}
    candidates = [*folder.iterdir(), *folder.glob("additional_chat_templates/*.jinja")]
    for file in sorted(file for file in candidates if file.is_file()):
        name = file.relative_to(folder).as_posix()
        if name == LINEAGE or file.name.endswith((".safetensors", INDEX)):
            continue
        wanted = file.name.endswith(_KEPT) or file.name.startswith(_KEPT_NAMES) or name in code
        hidden = file.name.startswith(".")
        (kept if wanted and not hidden and not is_weights(name) else skipped)[name] = file
    return kept, skipped


def _remote_code(folder: Path) -> set[str]:
    """The Python files at the top of a folder. RegraftError if an `auto_map` names one that is not among them."""
    files = {file.name for file in folder.glob("*.py") if file.is_file()}
    for place in (folder / "config.json", folder / "tokenizer_config.json"):
        named = _read_json(place).get("auto_map") if place.is_file() else None
        for entry in _flat(named):
            file = inside(entry.rpartition("--")[2].split(".")[0] + ".py", place)
            if file not in files:
                raise RegraftError(f"auto_map names {file}, which is not at the top of the folder", where=place)
    return files


def _flat(named: object) -> Iterator[str]:
    """The classes that an `auto_map` names: a map or a list, of names or of lists of them, any of them null."""
    if isinstance(named, dict | list):
        for entry in named.values() if isinstance(named, dict) else named:
            yield from _flat(entry)
    elif named is not None:
        yield str(named)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RegraftError(f"not a readable JSON file: {error}", where=path) from None
    if not isinstance(document, dict):
        raise RegraftError("not a JSON object", where=path)
    return document


def _places(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it, checked."""
    if not folder.is_dir():
        raise RegraftError("there is no folder here", where=folder, do="Give a folder with config.json and safetensors")
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file() and index.is_file():
        raise RegraftError(f"both {SINGLE} and {INDEX} are here", where=folder, do="Remove the one that is out of date")
    if single.is_file():
        return dict.fromkeys(sorted(_names(single)), single)
    if index.is_file():
        return _indexed(folder, index)
    raise _no_weights(folder)


def _no_weights(folder: Path) -> RegraftError:
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    if any(name == "adapter_model.safetensors" for name in names):
        return RegraftError("the folder holds an adapter alone", where=folder, do="Merge it into its base model first")
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        return RegraftError(
            f"the weights are pickled ({pickles[0]}), and unpickling can run any code",
            where=folder,
            do="Convert them on a machine you can lose: load with transformers, then "
            "model.save_pretrained(FOLDER), which writes safetensors",
        )
    return RegraftError(f"no weights here: neither {SINGLE} nor {INDEX}", where=folder)


def _indexed(folder: Path, index: Path) -> dict[str, Path]:
    mapped = _read_json(index).get("weight_map")
    if not isinstance(mapped, dict) or not mapped or not all(isinstance(file, str) for file in mapped.values()):
        raise RegraftError("weight_map is missing, empty or not a map of names to files", where=index)
    held: dict[str, str] = {}
    for file in sorted(set(mapped.values())):
        if not (folder / inside(file, index)).is_file():
            raise RegraftError(f"the shard {file} is missing", where=index, do="Download the whole model again")
        for name in _names(folder / file):
            if mapped.get(name) != file:
                raise RegraftError(f"tensor {name!r} is in {file}, which the index does not say", where=index)
            held[name] = file
    if absent := sorted(mapped.keys() - held.keys()):
        raise RegraftError(f"tensor {absent[0]!r} is not in {mapped[absent[0]]}, where the index says", where=index)
    return {name: folder / held[name] for name in sorted(held)}


def _names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise RegraftError(f"not a whole safetensors file: {error}", where=file, do="Download it again") from None


def _tensors(folder: Path, places: dict[str, Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in sorted(set(places.values())):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in (name for name, place in places.items() if place == file):
                    yield name, opened.get_tensor(name)
        except SafetensorError as error:
            raise RegraftError(f"a tensor cannot be read: {error}", where=file) from None
