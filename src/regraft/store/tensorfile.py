"""The safetensors layout: 8 bytes of header length (little-endian), a JSON header, the values.

The store writes it by itself, because a version's id hangs on every byte of a header and a library may change its own
layout between releases; any reader of safetensors reads these files. Values start at a multiple of 64 bytes.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from regraft.core.errors import RegraftError


class _Kind(NamedTuple):
    code: str
    size: int
    word: int


KINDS: dict[str, _Kind] = {
    name: _Kind(code, size, word)
    for name, code, size, word in [
        ("float64", "F64", 8, 8),
        ("float32", "F32", 4, 4),
        ("float16", "F16", 2, 2),
        ("bfloat16", "BF16", 2, 2),
        ("float8_e4m3fn", "F8_E4M3", 1, 1),
        ("float8_e4m3fnuz", "F8_E4M3FNUZ", 1, 1),
        ("float8_e5m2", "F8_E5M2", 1, 1),
        ("float8_e5m2fnuz", "F8_E5M2FNUZ", 1, 1),
        ("complex64", "C64", 8, 4),
        ("int64", "I64", 8, 8),
        ("int32", "I32", 4, 4),
        ("int16", "I16", 2, 2),
        ("int8", "I8", 1, 1),
        ("uint64", "U64", 8, 8),
        ("uint32", "U32", 4, 4),
        ("uint16", "U16", 2, 2),
        ("uint8", "U8", 1, 1),
        ("bool", "BOOL", 1, 1),
    ]
}
"""Name of the dtype in torch and numpy -> its code in safetensors, bytes per value, bytes per machine word."""

_NAMES = {kind.code: name for name, kind in KINDS.items()}
_ALIGNMENT = 64

Layout: TypeAlias = tuple[str, tuple[int, ...]]
"""A dtype's name and a shape."""


def size_of(layout: Layout) -> int:
    """Bytes of the values."""
    dtype, shape = layout
    if dtype not in KINDS:
        raise RegraftError(f"tensors of dtype {dtype} cannot be stored", do=f"Convert to one of {', '.join(KINDS)}")
    return KINDS[dtype].size * math.prod(shape)


def header(tensors: Mapping[str, Layout], metadata: Mapping[str, str] | None = None) -> bytes:
    """What comes before the values: the length and the header of a file that holds `tensors` in this order."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + size_of((dtype, shape))
        entries[name] = {"dtype": KINDS[dtype].code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


class Entry(NamedTuple):
    """One tensor of a file: its layout and where its values lie, in bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def parse(data: memoryview) -> dict[str, Entry]:
    """The tensors of a whole file in memory.

    Raises:
        ValueError: it is not a safetensors file of dtypes that the store knows.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length:
        raise ValueError("the header is cut short")
    entries: dict[str, Entry] = {}
    for name, entry in json.loads(bytes(data[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = _NAMES[entry["dtype"]], tuple(int(n) for n in entry["shape"])
            start, stop = (8 + length + int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"the entry of tensor {name!r} makes no sense: {error}") from None
        if min(shape, default=0) < 0 or stop - start != size_of((dtype, shape)) or stop > len(data):
            raise ValueError(f"tensor {name!r} does not fit the file")
        entries[name] = Entry(dtype, shape, start, stop)
    return entries
