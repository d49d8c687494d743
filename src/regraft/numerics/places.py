"""Where the parameters of a network lie, and parametrisations over them."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.utils import parametrize

from regraft.core.errors import Clash, RegraftError


def places(network: nn.Module, names: Collection[str], *, who: str) -> dict[str, tuple[nn.Module, str]]:
    """Each parameter's layer, and its name there, in the network's order.

    Args:
        names: the parameters that the model knows; each must lie in one place. `who`: whom an error is from.
    """
    found: dict[str, tuple[nn.Module, str]] = {}
    for name, layer in network.named_modules():
        if "parametrizations" in name.split("."):
            continue
        held = [*getattr(layer, "parametrizations", ()), *(n for n, p in layer._parameters.items() if p is not None)]
        found |= {f"{name}.{own}".lstrip("."): (layer, own) for own in held}
    if odd := sorted(found.keys() ^ set(names)):
        raise RegraftError(f"{who}: the tensor {odd[0]!r} is in two places, or another part is over it", do="Untie it")
    return found


def put_over(layer: nn.Module, own: str, change: nn.Module, *, who: str) -> None:
    """Puts a parametrisation over a tensor of a layer. Two at once cannot be taken off one by one: they clash."""
    if parametrize.is_parametrized(layer, own):
        raise Clash(f"{who}: another part changes the {own} of the same layer", do="Keep one of the two")
    parametrize.register_parametrization(layer, own, change)


def taken_out(network: nn.Module, kind: type[nn.Module]) -> None:
    """Takes the last parametrisation off every tensor that has one of that kind; the tensor is what it gave."""
    for layer in list(network.modules()):
        for own in list(getattr(layer, "parametrizations", ())):
            if isinstance(layer.parametrizations[own][-1], kind):  # type: ignore[index]
                parametrize.remove_parametrizations(layer, own, leave_parametrized=True)
