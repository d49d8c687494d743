"""A pool of low-rank modulations: each input brings the one whose key is nearest to it into a frozen transformer.

    W x <- W x + (alpha / r) B_m A_m x        m = argmax_m cos(q(x), k_m)

in the layers of `roles`. While a task after the first is learned, m is the largest of

    (cos + 1) / 2 · u_m        u_m ~ 1 / (how often earlier tasks chose m)        sum_m u_m = 1

so that tasks come to entries of their own. As a loss it is -cos(q, k_m), which pulls the chosen key to the query. With
`known`, the first task is what the network was pretrained on: it learns keys alone, whose entries stay the identity.

Paper:   "Learning to Modulate pre-trained Models in RL" Schmied et al. 2023. https://arxiv.org/abs/2306.14884
Claim:   what the network was pretrained on is kept, and new tasks are learned about as well as by low-rank changes of
         their own, without the task being told.
Needs:   a pretrained network with linear layers of these `roles` (`numerics.roles`), which are changed whole where q, k
         and v are one; `query` names the layer whose output, averaged over places, is q; none: what the head reads.
Leaves:  `modulation_pool`: modulations, keys, and how often each was chosen.
Differs: the authors' q is the mean of the embedded states, here any layer's; their keys of pretraining lie beside the
         pool, here they are those that the first task chose.
Tags:    low rank, pretrained, exemplar-free, domain-incremental
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Slot
from regraft.numerics.pool import Chosen, Pooled, cosines, new_keys
from regraft.numerics.roles import linear_layers

RARE = 1e-6
"""An entry that was never chosen counts as if it had been chosen so often."""


@dataclass(frozen=True)
class modulation_pool:
    size: int = 30
    r: int = 8
    alpha: float = 16.0
    roles: tuple[str, ...] = ("q", "v", "up", "down")
    query: str = ""
    known: bool = False

    def __post_init__(self) -> None:
        if min(self.size, self.r) < 1:
            raise RegraftError(f"modulation_pool: size {self.size} and r {self.r} must be at least 1")

    def begin(self, ctx: Context) -> _ModulationPool:
        return _ModulationPool(self, ctx)


class Keys(nn.Module):
    """Keys, and how often each was chosen in training."""

    uses: Tensor

    def __init__(self, size: int, width: int, dice: torch.Generator) -> None:
        super().__init__()
        self.keys = new_keys(size, width, dice)
        self.register_buffer("uses", torch.zeros(size, dtype=torch.long))


class _ModulationPool(Pooled):
    key = "modulation_pool"

    def __init__(self, part: modulation_pool, ctx: Context) -> None:
        super().__init__(ctx, part.query)
        self.part = part
        used = self.kept("uses")  # by earlier tasks
        self.used = torch.zeros(part.size, dtype=torch.long) if used is None else used

    def fill(self, network: nn.Module) -> None:
        part = self.part
        layers = linear_layers(network, part.roles, who=self.key)
        kept = self.kept("keys")
        self.pool = Keys(part.size, self.width if kept is None else kept.shape[1], self.ctx.rng)
        self.put(self.pool)
        for layer in layers.values():
            self.low_rank(layer, part.size, part.r, part.alpha / part.r)

    def choose(self, q: Tensor) -> Chosen:
        entries = self._nearest(q)
        if self.learning:
            self.pool.uses += entries.flatten().bincount(minlength=self.part.size)
        return Chosen(entries, torch.ones_like(entries, dtype=q.dtype))

    def near(self, q: Tensor) -> Tensor:
        return cosines(q, self.pool.keys).gather(1, self._nearest(q))[:, 0]

    def _nearest(self, q: Tensor) -> Tensor:
        """The entry of each row, [rows, 1]."""
        s = cosines(q, self.pool.keys.detach())
        if self.learning and self.used.any():
            rare = 1 / (self.used / self.used.sum() + RARE).to(s)
            s = (s + 1) / 2 * rare / rare.sum()
        return s.argmax(1, keepdim=True)

    def multiplier(self, slot: Slot) -> float:
        keys_alone = self.part.known and not self.left
        moves = slot.name in self.own and (not keys_alone or slot.name.endswith(".keys"))
        return 1.0 if moves else 0.0
