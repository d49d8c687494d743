"""Tensors as bytes and back, bit for bit. The only module of the store that imports torch."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.store.tensorfile import KINDS, Layout, size_of


def to_bytes(tensor: Tensor) -> tuple[Layout, memoryview]:
    """The layout of `tensor` (any shape, any device) and its values in C order, little-endian.

    The bytes are a view of a contiguous CPU tensor's own memory: nothing is copied.
    """
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "meta" if tensor.is_meta else str(tensor.layout)
        raise RegraftError(f"a {kind} tensor cannot be stored", do="Make it a dense tensor first")
    layout: Layout = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    size_of(layout)
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return layout, _little_endian(dense.reshape(-1).view(torch.uint8), layout[0]).numpy().data


def empty_buffer(size: int) -> tuple[Tensor, memoryview]:
    """Memory of `size` bytes, as a tensor [size] of uint8 and as a view that a file can be read into."""
    buffer = torch.empty(size, dtype=torch.uint8)
    return buffer, buffer.numpy().data


def from_buffer(values: Tensor, layout: Layout) -> Tensor:
    """The tensor whose values are the bytes `values` [size, uint8]; it shares their memory."""
    dtype, shape = layout
    kind: torch.dtype = getattr(torch, dtype)
    return _little_endian(values, dtype).view(kind).reshape(shape)


def _little_endian(values: Tensor, dtype: str) -> Tensor:
    word = KINDS[dtype].word
    if sys.byteorder == "little" or word == 1:
        return values
    return values.view(-1, word).flip(1).reshape(-1)
