"""Dynamic sparse training: every task has a sparse network of its own inside the shared weights, rewired as it learns.

    forward    w * M_t                                M_t: the task's mask, of density d
    frozen     w_i where M_s,i = 1 for another task s     it may be read, and no later task moves it
    every f    drop the part p of M_t of smallest |w|, grow as many:
               p = drop (1 + cos(pi step / steps)) / 2

`init` says how dense each layer is: `uniform`, d everywhere; `erk`, in proportion to the sum of its sizes over their
product, d in all. `grow` says where a connection is tried: at `random`, `unfired` ones first (never in this task's mask
before), or where the `gradient` or its `momentum` is largest. It begins at 0, unless it is another task's weight.
Biases, norms and the head every task has for itself. What no mask holds is left as it was found.

Paper:   "Continual Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates" Yildirim et
         al. 2023. https://arxiv.org/abs/2308.14831
Paper:   "Rigging the Lottery: Making All Tickets Winners" Evci et al. 2020. https://arxiv.org/abs/1911.11134
Claim:   tasks forget nothing at all; rewired ones answer as well as those whose masks stay as they were drawn, and
         together hold fewer weights.
Needs:   rows that say in column `task` of which task they are. Among a plan's trainables it masks; among its gradients
         too, it rewires.
Leaves:  `dynamic_sparse`: every task's mask and its own tensors.
Differs: the authors' code zeroes all that the first task does not use, so later tasks begin at 0; here they begin with
         the weights of the network. It also trains on with 0 where a frozen weight is grown, and tests with the weight.
         Momentum is of the gradient, whatever the optimizer. Biases are each task's own, so nothing is forgotten.
Tags:    parameter isolation, sparse, exemplar-free, task-incremental
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Model, Slot, Stateful
from regraft.numerics.dice import of_update
from regraft.numerics.features import head_if_any
from regraft.numerics.per_task import PerTask
from regraft.numerics.tensors import largest

MOMENTUM = 0.9


@dataclass(frozen=True)
class dynamic_sparse:
    density: float = 0.2
    init: Literal["uniform", "erk"] = "erk"
    grow: Literal["random", "unfired", "gradient", "momentum"] = "random"
    drop: float = 0.5
    every: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise RegraftError(f"dynamic_sparse: the density is {self.density}; it must be over 0 and at most 1")
        if not 0 <= self.drop < 1:
            raise RegraftError(f"dynamic_sparse: drop is {self.drop}; it is a part of the mask, in [0, 1)")
        if self.every < 1:
            raise RegraftError(f"dynamic_sparse: every is {self.every}; it must be at least 1")

    def begin(self, ctx: Context) -> _DynamicSparse:
        return _DynamicSparse(self, ctx)


class Masked(nn.Module):
    """w -> w * mask; with `dense`, the gradient is what it would be without the mask."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.dense = False

    def forward(self, w: Tensor) -> Tensor:
        sparse = w * self.mask
        return sparse + (w - w.detach()) * ~self.mask if self.dense else sparse


class _DynamicSparse(PerTask, Stateful):
    key = "dynamic_sparse"
    state = ("masks", "fired", "momentum", "rewires", "dice")

    def __init__(self, part: dynamic_sparse, ctx: Context) -> None:
        super().__init__(ctx)
        self.whole, self.anchor = False, -1  # no task trains without a mask
        self.part, self.rewires = part, False
        self.bare = self.model.state().keys()
        self.dice = of_update(ctx.rng, len(self.tasks))
        left = ctx.memory.get(self.key, {}).get("masks", {})
        self.kept: dict[int, dict[str, Tensor]] = {int(task): masks for task, masks in left.items()}
        self.masks: dict[str, Tensor] = {}
        self.fired: dict[str, Tensor] = {}
        self.momentum: dict[str, Tensor] = {}

    # --- the network

    def layers(self, network: nn.Module) -> dict[str, nn.Module]:
        """What is masked, by the names of the weights: linear and convolutional layers, but not the head."""
        head = head_if_any(self.model)
        kinds = nn.Linear | nn.Conv1d | nn.Conv2d
        own = {slot.name for slot in self.model.slots() if slot.kind == "base"}
        found = {f"{n}.weight": m for n, m in network.named_modules() if isinstance(m, kinds) and n != head}
        return {name: layer for name, layer in found.items() if name in own}

    def plain(self, network: nn.Module) -> Collection[str]:
        return self.bare - self.layers(network).keys()

    def modules(self, network: nn.Module, task: int) -> Mapping[str, nn.Module]:
        return {name.removesuffix(".weight"): Masked(mask) for name, mask in self.masks.items()}

    @contextmanager
    def _as(self, task: int) -> Iterator[None]:
        mine, self.masks = self.masks, self.kept.get(task, {})
        try:
            with super()._as(task):
                yield
        finally:
            self.masks = mine

    # --- as a trainable

    def install(self, model: Model) -> None:
        weights = {name: w.detach() for name, w in model.weights().items() if name in self.layers(model.module)}
        if not weights:
            raise RegraftError("dynamic_sparse: the network has no layer that could be masked before its head")
        self.start = {name: w.clone() for name, w in weights.items()}
        self.used = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in weights.items()}
        for masks in (masks for task, masks in self.kept.items() if task != self.now):
            for name, mask in masks.items():
                self.used[name] |= mask.to(model.device)
        drawn = self.kept[self.now] if self.now in self.kept else self._drawn(weights)
        self.masks = {name: mask.to(model.device) for name, mask in drawn.items()}
        self.fired = dict(self.masks)
        super().install(model)

    def _drawn(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        shapes = {name: w.shape for name, w in weights.items()}
        dense = densities(shapes, self.part.density, self.part.init)
        return {
            name: largest(torch.rand(shape, generator=self.dice), max(1, round(dense[name] * shape.numel())))
            for name, shape in shapes.items()
        }

    def multiplier(self, slot: Slot) -> float | Tensor:
        used = self.used.get(slot.name)
        return 1.0 if used is None or not used.any() else (~used).to(slot.tensor)

    def leave(self) -> Mapping[str, Any]:
        masks = {**self.kept, self.now: {name: mask.cpu() for name, mask in self.masks.items()}}
        return {self.key: {**super().leave()[self.key], "masks": {str(task): own for task, own in masks.items()}}}

    def fold(self, model: Model) -> None:
        weights = self._weights()
        learned = {n: torch.where(self.used[n] | m, weights[n], self.start[n]) for n, m in self.masks.items()}
        super().fold(model)
        model.load(learned)

    # --- as a gradient transform

    def update(self, grads: Grads) -> Grads:
        part, progress = self.part, self.ctx.progress()
        if not self.rewires:
            self.rewires = True
            self._show()
        if part.grow == "momentum":
            for name in self.masks.keys() & grads.keys():
                m = self.momentum.get(name, torch.zeros_like(grads[name]))
                self.momentum[name] = MOMENTUM * m + (1 - MOMENTUM) * grads[name]
        if progress.step and (progress.step + 1) % part.every == 0:
            share = part.drop * (1 + math.cos(math.pi * progress.share)) / 2
            for name, w in self._weights().items():
                self._rewire(name, w, share, grads)
            self._show()
        return {n: g * (self.masks[n] & ~self.used[n]) if n in self.masks else g for n, g in grads.items()}

    @torch.no_grad()
    def _rewire(self, name: str, w: Tensor, share: float, grads: Grads) -> None:
        mask, used = self.masks[name], self.used[name]
        active = int(mask.sum())
        count = min(int(share * active), mask.numel() - active)
        value = self._worth(name, grads)
        if not count or value is None:
            return
        kept = largest(w.abs().masked_fill(~mask, -1.0), active - count)
        grown = largest(value.to(w).masked_fill(kept, -1.0), count)
        w[grown & ~mask & ~used] = 0.0
        self.masks[name] = kept | grown
        self.fired[name] = self.fired[name] | grown

    def _worth(self, name: str, grads: Grads) -> Tensor | None:
        """How much a connection is worth trying, entry by entry, never negative; None: it is not known."""
        if self.part.grow == "gradient":
            return grads[name].abs() if name in grads else None
        if self.part.grow == "momentum":
            return self.momentum[name].abs() if name in self.momentum else None
        chance = torch.rand(self.masks[name].shape, generator=self.dice)
        return chance + ~self.fired[name].cpu() if self.part.grow == "unfired" else chance

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._show()

    def _show(self) -> None:
        """The masks as they are now, to the network."""
        dense = self.rewires and self.part.grow in ("gradient", "momentum")
        for name, layer in self.layers(self.model.module).items():
            masked: Any = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
            masked.mask, masked.dense = self.masks[name], dense

    def _weights(self) -> dict[str, Tensor]:
        return {slot.name: slot.tensor.detach() for slot in self.model.slots() if slot.name in self.masks}


def densities(shapes: Mapping[str, torch.Size], density: float, init: Literal["uniform", "erk"]) -> dict[str, float]:
    """How dense each layer is, so that all together are of that density. A layer that ERK would overfill is whole."""
    if init == "uniform":
        return dict.fromkeys(shapes, density)
    whole: set[str] = set()
    while True:
        rest = {name: sum(shape) / shape.numel() for name, shape in shapes.items() if name not in whole}
        wanted = density * sum(s.numel() for s in shapes.values()) - sum(shapes[name].numel() for name in whole)
        epsilon = wanted / max(1, sum(sum(shapes[name]) for name in rest))
        over = [name for name, raw in rest.items() if epsilon * raw > 1]
        if not over:
            return {**dict.fromkeys(whole, 1.0), **{name: epsilon * raw for name, raw in rest.items()}}
        whole.add(max(over, key=lambda name: rest[name]))
