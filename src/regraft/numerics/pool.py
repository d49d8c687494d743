"""A frozen network, modulated by what each input finds in a pool: entries, each with a key, and a query for each input.

    s_m = cos(q(x), k_m)        q: what the network makes of the input by itself, without the pool

A method says what an entry is, and which ones are chosen by s. The pool and the head are learned, nothing else. What is
learned of one task is found again by its keys, so nobody needs to say the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot, View
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating
from regraft.numerics.features import head_name
from regraft.numerics.tensors import buffers, on_cpu

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Of a layer: in order, and by name."""


class Chosen(NamedTuple):
    """The entries of each row, int64 [rows, n], and the share of each, [rows, n]."""

    entries: Tensor
    shares: Tensor


class Pooled(ABC):
    """A trainable at work, and the loss that pulls the keys to the queries that chose them.

    A method defines `choose`, `near`, and `fill`, which puts its keys in by `put`, with entries in the same module or
    in others, and has what was chosen act by `into` and `behind`.
    """

    key: str
    """Its name in memory, and of the modules that it puts in."""

    def __init__(self, ctx: Context, query: str = "") -> None:
        """`query`: the layer whose output, averaged over places, is q; none: what the head reads."""
        self.ctx, self.model, self.at = ctx, ctx.models["student"], query
        self.head = head_name(self.model, self.key)
        self.left: Mapping[str, Tensor] = ctx.memory.get(self.key, {})
        self.own: set[str] = set()
        self._statistics: Mapping[str, Tensor] = {}
        self.chosen: Chosen  # by the rows that the network reads
        self._taken_out: list[Callable[[], None]] = []
        self._alone = self._answers = False
        self._seen: Tensor | None = None
        self._asked: tuple[Tensor, Tensor] | None = None

    # --- what a method says

    @abstractmethod
    def fill(self, network: nn.Module) -> None:
        """Puts in the pool as it begins."""

    @abstractmethod
    def choose(self, q: Tensor) -> Chosen:
        """What rows of these queries, [rows, width], have."""

    @abstractmethod
    def near(self, q: Tensor) -> Tensor:
        """How near queries are to the keys that they choose, [rows]."""

    # --- for its use

    @property
    def learning(self) -> bool:
        """Whether rows are learned from, and not answered."""
        return self.model.module.training and not self._answers

    @property
    def width(self) -> int:
        """Of queries."""
        return self.query(self.ctx.rows("new").take([0]).to(self.model.device)["x"]).shape[1]

    def kept(self, name: str) -> Tensor | None:
        """What earlier updates left of a tensor that was put in with the keys."""
        return self.left.get(f"{self.head}.{self.key}.{name}")

    def put(self, module: nn.Module, layer: nn.Module | None = None) -> None:
        """The module is in a layer, none: in the head, by the name `key`, until training ends."""
        if layer is None:  # not in the network itself: were it an nn.Sequential, it would call the module
            layer = self.layer(self.head)
        layer.add_module(self.key, module.to(next(self.model.module.parameters())))
        self._taken_out.append(lambda: delattr(layer, self.key))

    def into(self, layer: nn.Module, change: Callable[[Arguments, Chosen], Arguments]) -> None:
        """The layer reads what `change` makes of its arguments."""

        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Arguments | None:
            return None if self._alone else change((inputs, named), self.chosen)

        self._taken_out.append(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def behind(self, layer: nn.Module, change: Callable[[Tensor, Tensor, Chosen], Tensor]) -> None:
        """The layer gives what `change` makes of its input and output."""

        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            return None if self._alone else change(inputs[0], output, self.chosen)

        self._taken_out.append(layer.register_forward_hook(hook).remove)

    def low_rank(self, layer: nn.Linear, entries: int, r: int, scale: float) -> None:
        """The layer gives what `LowRankPool` adds, too."""
        added = LowRankPool(layer, entries, r, scale, self.ctx.rng)
        self.put(added, layer)
        self.behind(layer, lambda x, output, chosen: output + added(x, chosen))

    def watch(self, layer: nn.Module, look: Callable[[Any], None]) -> None:
        """`look` is shown what the layer gives without the pool, which is before anything is chosen."""

        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self._alone:
                look(output)

        self._taken_out.append(layer.register_forward_hook(hook).remove)

    def layer(self, name: str) -> nn.Module:
        try:
            return self.model.module.get_submodule(name)
        except AttributeError:
            raise RegraftError(f"{self.key}: the network has no layer {name!r}") from None

    @torch.no_grad()
    def query(self, x: Tensor) -> Tensor:
        """q of inputs, [rows, width]. The same tensor is asked for once."""
        if self._asked is None or self._asked[0] is not x:
            self._alone = True
            try:
                with evaluating(self.model):
                    self.model.module(x)
            finally:
                self._alone = False
            assert self._seen is not None, "the layer was read"
            q = self._seen if self._seen.dim() == 2 else self._seen.flatten(1, -2).mean(1)
            self._asked, self._seen = (x, q), None
        return self._asked[1]

    # --- learning

    def install(self, model: Model) -> None:
        network, bare = model.module, model.state()
        self._statistics = buffers(model)
        self._listen(network)
        self.fill(network)
        self.own = model.state().keys() - bare.keys()
        model.load(self.left)

    def _listen(self, network: nn.Module) -> None:
        """The network is asked for each input's query before it reads the input."""

        def keep(seen: Tensor) -> None:
            if self._alone:
                self._seen = seen

        def ask(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not self._alone:
                self.chosen = self.choose(self.query(inputs[0]))

        if self.at:
            heard = self.layer(self.at).register_forward_hook(lambda _, inputs, output: keep(output))
        else:
            heard = self.layer(self.head).register_forward_pre_hook(lambda _, inputs: keep(inputs[0]))
        self._taken_out += [heard.remove, network.register_forward_pre_hook(ask).remove]

    def multiplier(self, slot: Slot) -> float | Tensor:
        return 1.0 if slot.name in self.own or slot.name.rpartition(".")[0] == self.head else 0.0

    def leave(self) -> Mapping[str, Any]:
        state = self.model.state()
        return {self.key: on_cpu({name: state[name] for name in sorted(self.own)})}

    def fold(self, model: Model) -> None:
        while self._taken_out:
            self._taken_out.pop()()
        model.load(self._statistics)  # what normalisation layers remember is frozen too
        self._asked = None

    # --- as a loss

    def loss(self, view: View) -> Tensor:
        return -self.near(self.query(view.rows["x"]))

    def weight(self, view: View) -> Tensor | None:
        return None

    # --- answering

    def answer(self, rows: Rows) -> Tensor:
        if not self.left:
            return self.model.read(rows).logits
        self._answers = True
        self.install(self.model)
        try:
            return self.model.read(rows).logits
        finally:
            self.fold(self.model)
            self._answers = False


def new_keys(entries: int, width: int, dice: torch.Generator) -> nn.Parameter:
    """Keys in random directions, [entries, width]; short, so that they turn fast."""
    return nn.Parameter((torch.rand(entries, width, generator=dice) * 2 - 1) / width)


def cosines(q: Tensor, keys: Tensor) -> Tensor:
    """Of queries [rows, width] with keys [entries, width]: [rows, entries]."""
    return F.normalize(q, dim=-1) @ F.normalize(keys, dim=-1).T


class LowRankPool(nn.Module):
    """What the entries of a pool add to a linear layer: sum_m share_m · scale · B_m A_m x, with B = 0 at first."""

    def __init__(self, layer: nn.Linear, entries: int, r: int, scale: float, dice: torch.Generator) -> None:
        super().__init__()
        bound = layer.in_features**-0.5
        self.A = nn.Parameter((torch.rand(entries, r, layer.in_features, generator=dice) * 2 - 1) * bound)
        self.B = nn.Parameter(torch.zeros(entries, layer.out_features, r))
        self.scale = scale

    def forward(self, x: Tensor, chosen: Chosen) -> Tensor:
        """x [rows, ..., in] to [rows, ..., out]."""
        A, B = self.A[chosen.entries], self.B[chosen.entries]
        low = torch.einsum("rpi,rnki->rnpk", x.flatten(1, -2) if x.dim() > 2 else x[:, None], A)
        added = torch.einsum("rnpk,rnok,rn->rpo", low, B, self.scale * chosen.shares)
        return added.view(*x.shape[:-1], -1)
