"""A causal language model of transformers: blocks of tokens in, log-probabilities of the next tokens out."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Out, Weights
from regraft.core.rows import Rows
from regraft.models.base import TorchModel, overheard

_LONGEST_MESSAGE, _TELLING = 300, 40
_CHECKED_TOKENS = 8
_PLAUSIBLE_LAYERS, _PLAUSIBLE_GROWTH = 1000, 8


class CausalLM(TorchModel):
    """Rows are blocks: `input_ids`, `positions`, `targets` [rows, context] int64 and `counts` [rows, context] float32.

    `positions` restart at every document, and no attention mask is given: transformers then keeps documents apart in
    attention (an all-ones mask would leak across them).
    """

    vmaps = False  # transformers looks at positions to build its mask
    module: Any  # a PreTrainedModel, whose own type says less than its use

    def __init__(self, module: nn.Module, tokenizer: Any = None, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(module)
        self.tokenizer = tokenizer
        self.files = dict(files or {})

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, bytes],
        weights: Weights,
        *,
        dtype: torch.dtype = torch.float32,
        trust_remote_code: bool = False,
    ) -> CausalLM:
        """A model from the small files of its folder (config.json, tokenizer files) and its tensors.

        Python files among them are run, and only with `trust_remote_code`; without such files the flag says nothing.

        Raises RegraftError when the files have code that is not trusted, the configuration is not a causal language
        model's, a tensor is missing, or one is left over.
        """
        from transformers import AutoModelForCausalLM

        trusted = _trusted(files, trust_remote_code)
        weights = dict(weights)
        with _folder_of(files) as folder, quiet():
            with _copying_alone(trusted):
                config = _config(folder, trusted)
                with _one_line("build the model", "config.json"), torch.device("meta"):
                    _check_layers(config, weights)
                    skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
            with _one_line("build the model", "config.json"):
                _check_size(skeleton, weights)
                module, info = type(skeleton).from_pretrained(
                    None,
                    config=config,
                    state_dict=weights,
                    dtype=dtype,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are refused below, by name
                )
        tokenizer = tokenizer_from(files, trust_remote_code=trust_remote_code)
        for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if info[problem]:
                some = ", ".join(map(str, sorted(info[problem], key=str)[:3]))
                raise RegraftError(f"the weights do not fit config.json: {problem.replace('_', ' ')}: {some}")
        model = cls(module, tokenizer, files)
        model._check_tokenizer()
        return model

    def _check_tokenizer(self) -> None:
        if self.tokenizer is None:
            return
        rows = self.module.get_input_embeddings().weight.shape[0]
        highest = max(self.tokenizer.get_vocab().values(), default=-1)
        if highest >= rows:
            raise RegraftError(
                f"the tokenizer has token ids up to {highest}, the model embeds {rows}",
                where="tokenizer",
                do="Give the tokenizer that the model was trained with",
            )

    @property
    def context(self) -> int | None:
        """The longest context the model's configuration allows, in tokens."""
        return _context(self.module.config)

    @property
    def last_layer(self) -> nn.Module | None:
        layer: nn.Module | None = self.module.get_output_embeddings()
        return layer

    def read(self, rows: Rows) -> Out:
        ids, positions = rows["input_ids"], rows["positions"]
        logits, features = overheard(
            self.last_layer, lambda: self.runner(input_ids=ids, position_ids=positions, use_cache=False).logits
        )
        return Out(logits, rows["targets"], rows["counts"], features)

    def sizes(self, rows: Rows) -> Tensor | None:
        counts: Tensor = rows["counts"]
        return counts.sum(1)

    def cost(self, rows: Rows) -> int:
        return int(rows["input_ids"].numel())

    @torch.no_grad()
    def check_packing(self) -> None:
        """Raises RegraftError when documents of one block are not kept apart: another first document must not change
        what the model says of the second. Not every family builds its attention from positions."""
        size = min(_CHECKED_TOKENS, self.context or _CHECKED_TOKENS)
        if size < 2:
            return
        first, rows = size // 2, self.module.get_input_embeddings().weight.shape[0]
        ids = torch.arange(size, device=self.device)
        both = torch.stack([ids, ids + (ids < first)]).remainder(rows)
        positions = torch.cat([ids[:first], ids[: size - first]]).repeat(2, 1)
        training = self.module.training
        self.module.eval()
        try:
            logits = self.runner(input_ids=both, position_ids=positions, use_cache=False).logits[:, first:]
        except TypeError:
            logits = None
        self.module.train(training)
        if logits is None or (logits[0] - logits[1]).abs().max() > 1e-5 * logits.abs().max():
            name = type(self.module).__name__
            raise RegraftError(
                f"{name} does not keep the documents of a packed block apart: its attention ignores where they begin",
                do="Use a family that builds its mask from positions, such as Llama, Qwen, Mistral, GPT-2 or GPT-NeoX",
            )


def context_from(files: Mapping[str, bytes], *, trust_remote_code: bool = False) -> int | None:
    """The longest context that the configuration among a model's files allows, in tokens."""
    trusted = _trusted(files, trust_remote_code)
    with _folder_of(files) as folder, quiet(), _copying_alone(trusted):
        return _context(_config(folder, trusted))


def _trusted(files: Mapping[str, bytes], trust_remote_code: bool) -> bool:
    """Whether the Python files of a model are to be run. RegraftError if there are some and the caller did not say so,
    even if transformers knows an architecture of that name: it would be another model."""
    code = any(name.endswith(".py") for name in files)
    if code and not trust_remote_code:
        raise _untrusted("config.json")
    return code


def _config(folder: str, trusted: bool) -> Any:
    from transformers import AutoConfig

    if not Path(folder, "config.json").exists():
        raise RegraftError("no config.json among the model's files", do="Give a Hugging Face model folder")
    with _one_line("read the configuration", "config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
        _context(config)
        return config


def _check_layers(config: Any, weights: Weights) -> None:
    """Raises RegraftError for a depth that would not end to build, and that no weights can have."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > max(_PLAUSIBLE_LAYERS, len(weights)):
        raise RegraftError(f"the weights do not fit: {layers} layers, {len(weights)} tensors", where="config.json")


def _check_size(skeleton: nn.Module, weights: Weights) -> None:
    """Raises RegraftError for sizes far beyond those of the weights, before memory is asked for them."""
    wanted, held = (sum(t.numel() for t in tensors) for tensors in (skeleton.parameters(), weights.values()))
    if wanted > _PLAUSIBLE_GROWTH * held:
        raise RegraftError(f"the weights do not fit: {wanted} numbers wanted, {held} there", where="config.json")


def _context(config: Any) -> int | None:
    text = config.get_text_config()
    return getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)


def tokenizer_from(files: Mapping[str, bytes], *, trust_remote_code: bool = False) -> Any:
    """The tokenizer among a model's files, or None."""
    from transformers import AutoTokenizer

    trusted = _trusted(files, trust_remote_code)
    if not {"tokenizer.json", "tokenizer_config.json"} & set(files):
        return None
    with (
        _folder_of(files) as folder,
        quiet(),
        _copying_alone(trusted),
        _one_line("read the tokenizer", "tokenizer.json"),
    ):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)


@contextmanager
def _one_line(what: str, where: str) -> Iterator[None]:
    """Whatever transformers, or a model's own code, stumbles over is one line."""
    try:
        yield
    except RegraftError:
        raise
    except Exception as error:
        if "set the option `trust_remote_code" in str(error) or "pass the argument `trust_remote_code" in str(error):
            raise _untrusted(where) from error
        raise RegraftError(f"transformers cannot {what}: {_said(error)}", where=where) from error


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    plain = isinstance(error, ValueError | OSError | ImportError) and len(text) >= _TELLING
    if not plain and "Error: " not in text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _untrusted(where: str) -> RegraftError:
    do = "Read it, and if you trust it say --trust-remote-code"
    return RegraftError("the model needs Python code of its own to be run", where=where, do=do)


@contextmanager
def _copying_alone(trusted: bool) -> Iterator[None]:
    """transformers copies trusted code to one place for all processes, who must not read each other's half copies."""
    if not trusted:
        yield
        return
    from transformers.utils.hub import HF_MODULES_CACHE

    try:
        os.makedirs(HF_MODULES_CACHE, exist_ok=True)
        handle = os.open(HF_MODULES_CACHE, os.O_RDONLY)
    except OSError as error:
        do = "Point HF_MODULES_CACHE elsewhere"
        raise RegraftError(f"cannot write: {error.strerror}", where=HF_MODULES_CACHE, do=do) from error
    try:
        with suppress(OSError):  # some network file systems lock no folder
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[str]:
    """The files in a folder for a while. It is named by their digest: transformers keeps a copy of a model's code under
    the name of its folder."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)} {name} {len(content)} ".encode() + content)
    with tempfile.TemporaryDirectory(prefix="regraft-") as outer:
        folder = Path(outer, f"regraft_{digest.hexdigest()[:16]}")
        folder.mkdir()
        for name, content in files.items():
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except OSError as error:
                raise RegraftError(
                    f"cannot write: {error.strerror}", where=target, do="Free space there, or point TMPDIR elsewhere"
                ) from error
        yield str(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its log lines and progress bars: what matters comes back as errors."""
    from transformers.utils import logging

    was, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(was)
        if bars:
            logging.enable_progress_bar()
