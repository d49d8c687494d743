"""A causal language model of transformers: blocks of tokens in, log-probabilities of the next tokens out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Out, Weights
from regraft.core.rows import Rows
from regraft.models.base import TorchModel


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

        Raises RegraftError when the configuration is not a causal language model's, a tensor is missing, or one is left
        over.
        """
        from transformers import AutoModelForCausalLM

        with _folder_of(files) as folder, _quiet():
            config = _config(folder, trust_remote_code)
            try:
                with torch.device("meta"):
                    skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
                module, info = type(skeleton).from_pretrained(
                    None,
                    config=config,
                    state_dict=dict(weights),
                    dtype=dtype,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are refused below, by name
                )
            except (ValueError, OSError, KeyError, json.JSONDecodeError) as error:
                raise _refused("build the model", "config.json", error) from error
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
        rows, highest = self.module.get_input_embeddings().weight.shape[0], max(self.tokenizer.get_vocab().values())
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

    def read(self, rows: Rows) -> Out:
        logits = self.runner(input_ids=rows["input_ids"], position_ids=rows["positions"], use_cache=False).logits
        return Out(logits, rows["targets"], rows["counts"])

    def sizes(self, rows: Rows) -> Tensor | None:
        counts: Tensor = rows["counts"]
        return counts.sum(1)

    def cost(self, rows: Rows) -> int:
        return int(rows["input_ids"].numel())

    @torch.no_grad()
    def check_packing(self) -> None:
        """Raises RegraftError when documents of one block are not kept apart: another first document must not change
        what the model says of the second. Not every family builds its attention from positions."""
        ids = torch.arange(8, device=self.device).remainder(self.module.get_input_embeddings().weight.shape[0])
        both = torch.stack([ids, torch.cat([ids[:4].flip(0), ids[4:]])])
        positions = torch.arange(4, device=self.device).repeat(2, 2)
        training = self.module.training
        self.module.eval()
        try:
            logits = self.runner(input_ids=both, position_ids=positions, use_cache=False).logits[:, 4:]
        except TypeError:
            logits = None
        self.module.train(training)
        if logits is None or (logits[0] - logits[1]).abs().max() > 1e-5 * logits.abs().max():
            name = type(self.module).__name__
            raise RegraftError(
                f"{name} does not keep the documents of a packed block apart: its attention ignores where they begin",
                do="Use a family that builds its mask from positions, such as Llama, Qwen, Mistral, GPT-2 or GPT-NeoX",
            )

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], *, tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Continues each prompt by at most `tokens` tokens; temperature 0 is greedy."""
        texts = []
        self.module.eval()
        for prompt in prompts:
            ids = self.tokenizer(prompt, return_tensors="pt").to(self.device)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                chosen: dict[str, Any] = (
                    {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
                )
                out = self.module.generate(
                    **ids, max_new_tokens=tokens, pad_token_id=self.tokenizer.eos_token_id, **chosen
                )
            texts.append(self.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
        return texts


def context_from(files: Mapping[str, bytes], *, trust_remote_code: bool = False) -> int | None:
    """The longest context that the configuration among a model's files allows, in tokens."""
    with _folder_of(files) as folder, _quiet():
        return _context(_config(folder, trust_remote_code))


def _config(folder: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    if not Path(folder, "config.json").exists():
        raise RegraftError("no config.json among the model's files", do="Give a Hugging Face model folder")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError) as error:
        raise _refused("read the configuration", "config.json", error) from error


def _context(config: Any) -> int | None:
    text = config.get_text_config()
    return getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)


def tokenizer_from(files: Mapping[str, bytes], *, trust_remote_code: bool = False) -> Any:
    """The tokenizer among a model's files, or None."""
    from transformers import AutoTokenizer

    if not {"tokenizer.json", "tokenizer_config.json"} & set(files):
        return None
    with _folder_of(files) as folder, _quiet():
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except (ValueError, OSError, KeyError, json.JSONDecodeError) as error:
            raise _refused("read the tokenizer", "tokenizer.json", error) from error


def _refused(what: str, where: str, error: Exception) -> RegraftError:
    if "trust_remote_code" in str(error):
        do = "Read it, and if you trust it say --trust-remote-code"
        return RegraftError("the model needs Python code of its own to be run", where=where, do=do)
    return RegraftError(f"transformers cannot {what}: {' '.join(str(error).split())}", where=where)


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        for name, content in files.items():
            target = Path(folder, name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except OSError as error:
                raise RegraftError(
                    f"cannot write: {error.strerror}", where=target, do="Free space there, or point TMPDIR elsewhere"
                ) from error
        yield folder


@contextmanager
def _quiet() -> Iterator[None]:
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
