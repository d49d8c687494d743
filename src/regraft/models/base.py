"""What the families share: canonical names, roles and depths, seen through wrappers and adapters."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, Self

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Slot, Weights
from regraft.core.rows import Rows

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:base_model\.model\.|_orig_mod\.|module\.)|\.base_layer(?=\.)")
_PARAMETRIZED = re.compile(r"parametrizations\.([^.]+)\.original$")
_DEPTH = re.compile(r"(?:^|\.)(?:layers|blocks|h|layer)\.(\d+)(?:\.|$)")


@cache
def canonical(name: str) -> str:
    """The name a tensor has in the bare model, whatever torch.compile, DDP or an adapter put around it."""
    return _PARAMETRIZED.sub(r"\1", _WRAPPERS.sub("", name))


def not_finite(weights: Weights) -> str | None:
    """The first tensor that holds an infinity or something that is no number, if one does."""
    floats = ((n, t.float() if t.element_size() == 1 else t) for n, t in weights.items() if t.is_floating_point())
    return next((name for name, tensor in floats if not bool(torch.isfinite(tensor).all())), None)


def overheard(layer: nn.Module | None, call: Callable[[], Tensor]) -> tuple[Tensor, Tensor | None]:
    """What the call gives, and what the layer read in it last. The layer is listened to in this call alone, so a copy
    of it, or whoever else calls it, has nothing to do with it."""
    if layer is None:
        return call(), None
    heard: list[Tensor] = []
    hooks, key = layer._forward_pre_hooks, id(heard)
    hooks[key] = lambda _, inputs: heard.append(inputs[0])  # to register a hook takes 5% of a small network's step
    try:
        said = call()
    finally:
        del hooks[key]
    return said, heard[-1] if heard else None


class TorchModel:
    """A `torch.nn.Module` in the house.

    `module` is the bare network that is saved; `runner` is what is called in a forward pass: the same, compiled, or
    wrapped for several processes. `vmaps`: whether torch.func.vmap may go over its rows.
    """

    vmaps = True
    task_classes: Tensor | None = None

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.runner: nn.Module = module
        self._own = {canonical(name) for name, _ in module.named_parameters()}
        self.frozen = frozenset(canonical(n) for n, p in module.named_parameters() if not p.requires_grad)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def last_layer(self) -> nn.Module | None:
        """What gives the logits, and reads the features; None where the family has no such layer."""
        return None

    def slots(self) -> list[Slot]:
        found = []
        for name, tensor in self.module.named_parameters():
            own = canonical(name)
            depth = _DEPTH.search(own)
            role = own.rsplit(".", 2)[-2] if "." in own else own
            kind: Literal["base", "adapter"] = "base" if own in self._own else "adapter"
            found.append(Slot(own, tensor, kind, role, int(depth[1]) if depth else None))
        return found

    def sizes(self, rows: Rows) -> Tensor | None:
        return None

    def cost(self, rows: Rows) -> int:
        return rows.count

    def weights(self) -> Weights:
        adapted = {
            f"{name}.{tensor}" if name else tensor: getattr(layer, tensor)
            for name, layer in self.module.named_modules()
            for tensor in getattr(layer, "parametrizations", ())
        }
        return {slot.name: adapted.get(slot.name, slot.tensor) for slot in self.slots() if slot.kind == "base"}

    def state(self) -> dict[str, Tensor]:
        """Every tensor a saved model needs, parameters and persistent buffers, by name; tied tensors once."""
        tensors: dict[str, Tensor] = {}
        seen: set[tuple[int, int, tuple[int, ...]]] = set()
        for name, tensor in self.module.state_dict().items():
            place = (tensor.data_ptr(), tensor.storage_offset(), tuple(tensor.shape))
            if tensor.numel() and place in seen:
                continue
            seen.add(place)
            tensors[canonical(name)] = tensor.detach()
        return tensors

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Copies `weights` in by name; a name or shape that the model does not have is an error."""
        own: Mapping[str, Tensor] = {canonical(n): t for n, t in self.module.state_dict().items()}
        for name, tensor in weights.items():
            if name not in own:
                raise RegraftError(f"the model has no tensor {name!r}")
            if own[name].shape != tensor.shape:
                raise RegraftError(f"tensor {name!r} is {list(tensor.shape)}; the model's is {list(own[name].shape)}")
            own[name].copy_(tensor)

    def copy(self) -> Self:
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module).eval().requires_grad_(False)
        twin.runner = twin.module
        return twin
