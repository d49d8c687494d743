"""Layers of a transformer by what they are for, whatever its family calls them.

    q k v o     the layers of attention: what a place asks, what it is found by, what it gives, and what reads these
    up down     the layers of a block's perceptron

A layer has the role that the longest known ending of its name says; so `attention.output.dense` of BERT is no `down`,
as its `output.dense` is. Where q, k and v are one layer, of three equal parts, it has all three roles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import Tensor, nn

from regraft.core.errors import RegraftError

NAMES = {
    "q": ("q", "query", "q_proj", "query_proj", "q_lin", "to_q"),
    "k": ("k", "key", "k_proj", "key_proj", "k_lin", "to_k"),
    "v": ("v", "value", "v_proj", "value_proj", "v_lin", "to_v"),
    "o": ("o", "o_proj", "out_proj", "out_lin", "attention.output.dense", "attn.proj"),
    "up": ("up", "fc1", "up_proj", "lin1", "wi", "linear1", "intermediate.dense", "dense_h_to_4h"),
    "down": ("down", "fc2", "down_proj", "lin2", "wo", "linear2", "output.dense", "dense_4h_to_h"),
}
"""What families call a role: ours, BERT's and those of its kin, Llama's, timm's, T5's."""
WHOLE = ("qkv", "Wqkv")
"""A layer that is q, k and v, one after the other."""
_ROLES = {ending: (role,) for role, endings in NAMES.items() for ending in endings} | dict.fromkeys(WHOLE, tuple("qkv"))
_LONGEST = max(ending.count(".") for ending in _ROLES) + 1
_WIDTHS = ("head_dim", "attention_head_size", "key_value_proj_dim")
_COUNTS = ("num_attention_heads", "num_heads", "n_heads", "heads")


def roles_of(name: str) -> tuple[str, ...]:
    """The roles of a layer of this name; its last word, where that is not known."""
    words = name.split(".")
    endings = (".".join(words[-count:]) for count in range(_LONGEST, 0, -1))
    return next((_ROLES[ending] for ending in endings if ending in _ROLES), (words[-1],))


def linear_layers(network: nn.Module, roles: Collection[str], *, who: str) -> dict[str, nn.Linear]:
    """The linear layers that have one of the roles; a word that is no role is the last one of their names."""
    linear = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    asked = {name: {*roles_of(name), name.rpartition(".")[2]} & set(roles) for name in linear}
    if not any(asked.values()):
        called = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear)) or "none"
        what = f"{who}: no linear layer is called {' or '.join(roles)}"
        raise RegraftError(what, do=f"Their names end in: {called}")
    return {name: layer for name, layer in linear.items() if asked[name]}


def heads_of(network: nn.Module, name: str, outputs: int, *, who: str) -> int:
    """Into how many heads the outputs of a layer of attention are cut; where it is q, k and v, those of all three."""
    for above in _above(network, name):
        if width := _first(above, _WIDTHS):
            return outputs // width
        if count := _first(above, _COUNTS):
            return count * len(roles_of(name))
    raise RegraftError(f"{who}: nothing around {name!r} says how many heads it has", do="Say it: `heads`")


def _above(network: nn.Module, name: str) -> Iterator[nn.Module]:
    while name:
        name = name.rpartition(".")[0]
        yield network.get_submodule(name)


def _first(layer: nn.Module, names: Collection[str]) -> int | None:
    found = (getattr(layer, name, None) for name in names)
    return next((each for each in found if isinstance(each, int) and each > 0), None)


class Stack(NamedTuple):
    """The blocks of a transformer by name, in order, and the normalisations that come behind them."""

    blocks: tuple[str, ...]
    norms: tuple[str, ...]


def stack(network: nn.Module) -> Stack:
    """The first list of layers each of which attends; an empty one, where there is no such list."""
    named = dict(network.named_modules())
    lists = [name for name, layer in named.items() if isinstance(layer, nn.ModuleList | nn.Sequential)]
    found = [name for name in lists if len(named[name]) and all(map(_attends, named[name].children()))]
    inner = [name for name in found if not any(other != name and _inside(other, name) for other in found)]
    if not inner:
        return Stack((), ())
    own = inner[0]
    blocks = tuple(f"{own}.{name}".lstrip(".") for name, _ in named[own].named_children())
    names = list(named)
    last = max(i for i, name in enumerate(names) if _inside(name, own))
    return Stack(blocks, tuple(name for name in names[last + 1 :] if _normalises(named[name])))


def _inside(name: str, other: str) -> bool:
    return not other or name == other or name.startswith(f"{other}.")


def _attends(block: nn.Module) -> bool:
    return any(isinstance(layer, nn.Linear) and "q" in roles_of(name) for name, layer in block.named_modules())


def _normalises(layer: nn.Module) -> bool:
    return "norm" in type(layer).__name__.lower() and isinstance(getattr(layer, "weight", None), Tensor)
