"""Classifiers on the networks of others: timm's, and those of transformers for images and for text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.models.causal import quiet
from regraft.models.classifier import Classifier

_NOT_LOADED = (OSError, ValueError, RuntimeError, KeyError)
_HUB_SECONDS = 10.0


class Logits(nn.Module):
    """A model of transformers as a module from one tensor to logits.

    Args:
        argument: what the model calls its input: `pixel_values` or `input_ids`.
        pad: the token that fills texts up, which is hidden from attention.
        channels: of the images that the model reads; a grey one is given to each of them.
    """

    def __init__(self, network: nn.Module, argument: str, pad: int | None = None, channels: int | None = None) -> None:
        super().__init__()
        self.network, self.argument, self.pad, self.channels = network, argument, pad, channels

    def forward(self, x: Tensor) -> Tensor:
        if self.channels is not None and x.shape[1] != self.channels:
            if x.shape[1] != 1:
                raise RegraftError(f"the network reads images of {self.channels} channels; these have {x.shape[1]}")
            x = x.expand(-1, self.channels, -1, -1)
        masked = {} if self.pad is None else {"attention_mask": (x != self.pad).long()}
        logits: Tensor = self.network(**{self.argument: x}, **masked).logits
        return logits


def of_timm(name: str, classes: int, *, pretrained: bool = False, **options: Any) -> Classifier:
    """A model of timm with a head of so many classes.

    Raises RegraftError where timm is not installed or does not know the name.
    """
    try:
        import timm
    except ImportError:
        raise RegraftError("timm is not installed", do="pip install timm") from None
    try:
        module = timm.create_model(name, pretrained=pretrained, num_classes=classes, **options)
    except (RuntimeError, ValueError, TypeError) as error:
        raise RegraftError(f"timm cannot make {name!r}: {str(error).splitlines()[0]}") from None
    return _with_head(module, module.get_classifier())


def of_transformers(network: Any, *, argument: str | None = None) -> Classifier:
    """A model of transformers for the classification of images or of texts, whichever its configuration says.

    Args:
        network: the model; its head must be one linear layer.
        argument: what it calls its input; none: its own main input.
    """
    argument = argument or network.main_input_name
    pad = network.config.pad_token_id if argument == "input_ids" else None
    if argument == "input_ids" and pad is None:
        raise RegraftError("the model's configuration names no token that pads", do="Set config.pad_token_id")
    seeing = getattr(network.config, "vision_config", network.config)
    channels = getattr(seeing, "num_channels", None) if argument == "pixel_values" else None
    wrapped = Logits(network, argument, pad, channels)
    heads = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == network.config.num_labels]
    return _with_head(wrapped, heads[-1] if heads else None)


def pretrained(folder: str, classes: int, kind: Literal["images", "text"]) -> Classifier:
    """A network of a Hugging Face folder or hub name with a new head.

    Raises RegraftError for what cannot be loaded.
    """
    import transformers

    _look_up(folder)
    loader: Any = {
        "images": transformers.AutoModelForImageClassification,
        "text": transformers.AutoModelForSequenceClassification,
    }[kind]
    try:
        with quiet():  # the head is new, and need not be told each time
            network = loader.from_pretrained(
                folder, num_labels=classes, ignore_mismatched_sizes=True, use_safetensors=True
            )
        if kind == "text" and network.config.pad_token_id is None:
            network.config.pad_token_id = _pad(transformers.AutoTokenizer.from_pretrained(folder))
    except _NOT_LOADED as error:
        raise RegraftError(f"cannot be loaded: {str(error).splitlines()[0]}", where=folder) from None
    return of_transformers(network)


def tokenizer_of(folder: str) -> Callable[[Sequence[str]], Tensor]:
    """The tokenizer of a Hugging Face folder or hub name, as a function from texts to ids [texts, length].

    Raises RegraftError for what cannot be loaded.
    """
    import transformers

    _look_up(folder)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        said = transformers.AutoConfig.from_pretrained(folder).pad_token_id
    except _NOT_LOADED as error:
        raise RegraftError(f"cannot be loaded: {str(error).splitlines()[0]}", where=folder) from None
    pad = _pad(tokenizer) if said is None else said
    if pad is None:
        raise RegraftError("the tokenizer names no token that pads or ends a text", where=folder)

    def tokenise(texts: Sequence[str]) -> Tensor:
        ids = tokenizer(list(texts), truncation=True)["input_ids"]
        longest = max(map(len, ids), default=1)
        return torch.tensor([[*each, *[pad] * (longest - len(each))] for each in ids])

    return tokenise


def _look_up(folder: str) -> None:
    """Raises RegraftError for what is no folder here and no name of the hub; `transformers` would ask many times."""
    if Path(folder).is_dir():
        return
    if folder.startswith((".", "/", "~")) or folder.count("/") > 1 or "\\" in folder:
        raise RegraftError("there is no such folder", where=folder)
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(folder, "config.json"), str):
            return
        HfApi().model_info(folder, timeout=_HUB_SECONDS)
    except Exception as error:  # its kinds are those of the hub, of the network and of whatever carries it
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RegraftError(f"there is no such folder, and none on the hub: {said}", where=folder) from None


def _pad(tokenizer: Any) -> int | None:
    pad: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


def _with_head(module: nn.Module, head: object) -> Classifier:
    name = next((name for name, layer in module.named_modules() if layer is head), None)
    if name is None or not isinstance(head, nn.Linear):
        raise RegraftError("the network's head is no linear layer of its own")
    return Classifier(module, head=name)
