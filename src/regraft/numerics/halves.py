"""A random half of a network's matrices, a different one for each draw.

    category    in every block of every layer, half of its matrices: 2 of Q, K, V, O; of gate, up, down 2 in half of the
                layers and 1 in the others. A block is what shares a parent module, so in a network without layers it is
                the whole of it
    layer       all matrices of half of the layers
    model       half of all matrices, wherever they are

A matrix goes with its bias. Embeddings, norms and the head are not drawn.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Model
from regraft.numerics.features import head_if_any

Level: TypeAlias = Literal["category", "layer", "model"]
Rest: TypeAlias = Literal["embeddings", "norms", "head"]
Unit: TypeAlias = tuple[str, ...]


def drawn(model: Model, ratio: float, by: Level, rest: Collection[Rest], dice: torch.Generator) -> set[str]:
    """The names of the tensors that are drawn, a part `ratio` of the matrices rounded up, and of those in `rest`.

    Raises RegraftError where layers are asked for and the network has none.
    """
    owners = _owners(model)
    matrices = [owner for owner, kind in owners.items() if kind == "matrix"]
    found = {owner for owner, kind in owners.items() if kind in rest}
    for blocks in _pools(model, matrices, by):
        found |= {owner for unit in _some(blocks, ratio, dice) for owner in unit}
    return {slot.name for slot in model.slots() if _owner(slot.name) in found}


def _some(blocks: Mapping[str, list[Unit]], ratio: float, dice: torch.Generator) -> Iterable[Unit]:
    """From each block its part, rounded down or up so that the part of them all is right."""
    sizes = [len(units) for units in blocks.values()]
    counts = [math.floor(ratio * size + 1e-9) for size in sizes]
    more = math.ceil(ratio * sum(sizes) - 1e-9) - sum(counts)
    cut = [i for i, size in enumerate(sizes) if counts[i] < ratio * size - 1e-9]
    for i in torch.randperm(len(cut), generator=dice).tolist()[:more]:
        counts[cut[i]] += 1
    for units, count in zip(blocks.values(), counts, strict=True):
        yield from (units[i] for i in torch.randperm(len(units), generator=dice).tolist()[:count])


def _pools(model: Model, matrices: list[str], by: Level) -> Iterable[Mapping[str, list[Unit]]]:
    """Blocks of units by pool: the part of a pool is right as a whole."""
    if by == "model":
        return [{"": [(owner,) for owner in matrices]}]
    if by == "layer":
        depths = {_owner(slot.name): slot.depth for slot in model.slots()}
        layers: dict[int, list[str]] = defaultdict(list)
        for owner in matrices:
            if (depth := depths[owner]) is not None:
                layers[depth].append(owner)
        if not layers:
            raise RegraftError("the network has no numbered layers", do="Draw by 'category' or by 'model'")
        return [{"": [tuple(layer) for layer in layers.values()]}]
    pools: dict[str, dict[str, list[Unit]]] = defaultdict(lambda: defaultdict(list))
    for owner in matrices:
        block = _owner(owner)
        pools[re.sub(r"\d+", "*", block)][block].append((owner,))
    return pools.values()


def _owners(model: Model) -> dict[str, str]:
    """What each module is that has tensors: matrix, embeddings, norms, head."""
    layers = list(model.module.named_modules())
    embedded = {id(p) for _, m in layers if isinstance(m, nn.Embedding) for p in m.parameters()}
    linear = [name for name, m in layers if isinstance(m, nn.Linear)]
    head = head_if_any(model) or next(reversed(linear), None)
    headed = set() if head is None else {id(p) for p in model.module.get_submodule(head).parameters()}
    found: dict[str, str] = {}
    for slot in model.slots():
        owner = _owner(slot.name)
        if slot.kind != "base":
            continue
        matrix = slot.tensor.dim() > 1
        if id(slot.tensor) in embedded or (matrix and not slot.name.endswith("weight")):  # positions, class tokens
            found[owner] = "embeddings"
        elif id(slot.tensor) in headed:
            found[owner] = "head"
        elif matrix:
            found[owner] = "matrix"
        else:
            found.setdefault(owner, "norms")
    return found


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
