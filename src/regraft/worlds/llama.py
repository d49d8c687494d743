"""A small Llama-architecture model and its BPE tokenizer, made on the spot."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regraft.models.causal import CausalLM
from regraft.numerics.dice import seeded

END = "<|end|>"


def bpe(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def llama(
    tokenizer: Any, *, width: int = 96, depth: int = 4, heads: int = 4, context: int = 128, seed: int = 0
) -> CausalLM:
    """A Llama of random weights for the tokenizer, embeddings tied, with the files that a saved model has."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=8 * width // 3 // 16 * 16,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        architectures=["LlamaForCausalLM"],
    )
    with seeded(seed):
        module = LlamaForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files["config.json"] = (json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n").encode()
    return CausalLM(module, tokenizer, files)


def save(model: CausalLM, folder: Path) -> None:
    """Writes the model as a plain Hugging Face folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    save_file({n: t.contiguous() for n, t in model.state().items()}, folder / "model.safetensors", {"format": "pt"})
