"""Adopt: a Hugging Face model becomes the first version of a line, without its history."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.recipes.update import RELEASE
from regraft.store import Draft, Line, TensorRef, Version
from regraft.store.folder import read_folder

_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*"]


def adopt(model: str, line: Path, *, trust_remote_code: bool = False, message: str = "") -> tuple[Line, Version]:
    """Starts a line at `line` from a folder or a hub name. Nothing is left behind when the model cannot be read.

    Raises RegraftError for pickled weights, a folder that is not a model, a hub name without a network, weights that
    are not finite or do not fit the configuration, a tokenizer that does not fit the model, and a place that is taken.
    """
    from regraft.models.base import not_finite
    from regraft.models.causal import CausalLM

    folder = local_folder(model, trust_remote_code=trust_remote_code)
    files, tensors = read_folder(folder, trust_remote_code=trust_remote_code)
    weights = dict(tensors)
    contents = {name: path.read_bytes() for name, path in files.items()}
    CausalLM.from_files(contents, weights, trust_remote_code=trust_remote_code)
    if broken := not_finite(weights):
        raise RegraftError(f"tensor {broken!r} has values that are not finite numbers", where=model)
    made = _empty_line(line)
    with made.writing():
        draft = Draft(
            bundles={RELEASE: {name: made.put_tensor(tensor) for name, tensor in weights.items()}},
            files={name: made.put_file(content) for name, content in contents.items()},
            record={"recipe": "adopt", "calls": [], "from": Path(model).name},
            message=message or f"adopted from {Path(model).name}",
        )
        return made, made.commit(draft)


def check_same(model: str, line: Line, *, trust_remote_code: bool = False) -> None:
    """Raises RegraftError if the line's first version is not this model: another configuration, another tensor."""
    versions = line.versions()
    if not versions:
        return
    files, tensors = read_folder(
        local_folder(model, trust_remote_code=trust_remote_code), trust_remote_code=trust_remote_code
    )
    config = "config.json"
    if config not in files or files[config].read_bytes() != line.bytes(versions[0].files[config]):
        other = config
    else:
        other = _other_tensor(tensors, line, versions[0].bundles[RELEASE])
    if other:
        what = f"the line began from another model than {model}: its {other} is not the same"
        raise RegraftError(what, where=line.path, do="Name another place with --line, or the line itself to learn on")


def _other_tensor(tensors: Iterable[tuple[str, Tensor]], line: Line, stored: Mapping[str, TensorRef]) -> str:
    """The first tensor that is not as it is stored, or that one of the two lacks; none: an empty name."""
    lacking = set(stored)
    for name, tensor in tensors:
        layout = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        if name not in stored or stored[name].layout != layout or not line.tensor(stored[name]).equal(tensor):
            return name
        lacking.discard(name)
    return min(lacking, default="")


def _empty_line(place: Path) -> Line:
    """A new line, or the one without versions that an adoption which was cut short left there."""
    if Line.is_line(place) and not (found := Line.open(place)).versions():
        return found
    return Line.create(place, about={"family": "causal language model"})


def local_folder(model: str, *, trust_remote_code: bool = False) -> Path:
    """The folder of a model: as it is, or fetched from the hub by name, its Python files only if they are trusted."""
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists():
        raise RegraftError("a file, not a model folder", where=model, do="Give the folder with config.json")
    if not re.fullmatch(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", model):
        raise RegraftError("there is no such folder", where=model, do="Give a Hugging Face model folder or a hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(model, allow_patterns=[*_WANTED, *(["*.py"] if trust_remote_code else [])]))
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = "HF_HUB_OFFLINE" in os.environ or not isinstance(error, HfHubHTTPError)
        why = "the hub cannot be reached" if offline else str(error).splitlines()[0]
        raise RegraftError(f"not a folder here, and {why}", where=model, do="Give a local folder") from None
