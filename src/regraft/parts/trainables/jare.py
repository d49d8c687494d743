"""Retrieved increments: what a frozen network adds to its weights is found by the input itself, and mixed.

    W x <- W x + sum_m omega_m B_m A_m x        s_m = mean_g cos(q_g, k_mg)    omega_m = s_m / sum of s over the top

in the layers of `roles`, with the query q cut into `groups`. Every update has `slots` entries of its own, and
moves no others. Its keys come first, in a training of their own (`phase="keys"`), whose loss for a row is

    - mean over g and over the `pulled` nearest of the update's own keys, but those dropped, of cos(q_g, k_mg)

each key dropped for a row with probability `dropout`, so that none lies idle. Then its increments are learned.

Paper:   "Scalable Language Model with Generalized Continual Learning" Peng et al. 2024. https://arxiv.org/abs/2404.07470
Claim:   without the task being told it is about as accurate as low-rank changes for each task, and forgets next to
         nothing.
Needs:   a pretrained network with linear layers of these `roles` (`numerics.roles`), which are changed whole where q, k
         and v are one; `query` names the layer whose output, averaged over places, is q; none: what the head reads.
Leaves:  `jare`: increments and keys.
Differs: the authors' q is of another network, a sentence encoder; theirs retrieves for a batch, here every row for
         itself. The head does not move.
Tags:    low rank, pretrained, exemplar-free, domain-incremental
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Slot, Stateful
from regraft.numerics.pool import Chosen, Pooled
from regraft.numerics.roles import linear_layers


@dataclass(frozen=True)
class jare:
    slots: int = 4
    top: int = 4
    groups: int = 6
    r: int = 12
    pulled: int = 2
    dropout: float = 0.25
    roles: tuple[str, ...] = ("q", "v")
    query: str = ""
    phase: Literal["keys", "increments"] = "increments"

    def __post_init__(self) -> None:
        if min(self.slots, self.top, self.groups, self.r, self.pulled) < 1:
            raise RegraftError("jare: slots, top, groups, r and pulled must be at least 1")
        if self.pulled > self.slots:
            raise RegraftError(f"jare: {self.pulled} keys are pulled, of {self.slots} slots")
        if not 0 <= self.dropout < 1:
            raise RegraftError(f"jare: dropout is {self.dropout}; it must be at least 0 and under 1")

    def begin(self, ctx: Context) -> _Jare:
        return _Jare(self, ctx)


class Keys(nn.Module):
    """Keys of each group at right angles, as far as there is room; short, so that they turn fast."""

    def __init__(self, slots: int, groups: int, width: int, dice: torch.Generator) -> None:
        super().__init__()
        each = [nn.init.orthogonal_(torch.empty(slots, width // groups), generator=dice) for _ in range(groups)]
        self.keys = nn.Parameter(torch.stack(each, 1) / width)


class _Jare(Pooled, Stateful):
    key = "jare"
    state = ("dice",)

    def __init__(self, part: jare, ctx: Context) -> None:
        super().__init__(ctx, part.query)
        self.part, self.dice = part, ctx.rng

    def fill(self, network: nn.Module) -> None:
        part, kept, dice = self.part, self.kept("keys"), self.dice
        before = 0 if kept is None else len(kept)
        if part.phase == "keys":
            before += part.slots
        elif kept is None:
            raise RegraftError("jare: no keys were learned", do="Learn them first, in a stage with phase='keys'")
        self.entries = before
        layers = linear_layers(network, part.roles, who=self.key)
        width = self.width if kept is None else kept[0].numel()
        if width % part.groups:
            raise RegraftError(f"jare: queries of {width} numbers cannot be cut into {part.groups} groups")
        self.pool = Keys(self.entries, part.groups, width, dice)
        self.put(self.pool)
        for layer in layers.values():
            self.low_rank(layer, self.entries, part.r, 1.0)
        state = self.model.state()
        self.left = {name: torch.cat([old, state[name][len(old) :].cpu()]) for name, old in self.left.items()}

    def _cosines(self, q: Tensor, keys: Tensor) -> Tensor:
        """[rows, groups, entries]."""
        q = F.normalize(q.unflatten(1, (self.part.groups, -1)), dim=-1)
        return torch.einsum("rgw,mgw->rgm", q, F.normalize(keys, dim=-1))

    def choose(self, q: Tensor) -> Chosen:
        s, entries = self._cosines(q, self.pool.keys).mean(1).topk(min(self.part.top, self.entries))
        return Chosen(entries, s / (s.sum(1, keepdim=True) + 1e-9))

    def near(self, q: Tensor) -> Tensor:
        s = self._cosines(q, self.pool.keys[-self.part.slots :])
        dropped = torch.rand(s.shape, generator=self.dice).to(s.device) < self.part.dropout
        nearest = s.detach().masked_fill(dropped, -torch.inf).topk(self.part.pulled, -1).indices
        return s.gather(-1, nearest).mean((1, 2))

    def multiplier(self, slot: Slot) -> float | Tensor:
        keys = self.part.phase == "keys"
        if slot.name not in self.own or keys != slot.name.endswith(".keys"):
            return 0.0
        own = torch.arange(self.entries, device=slot.tensor.device) >= self.entries - self.part.slots
        return own.to(slot.tensor).view(-1, *[1] * (slot.tensor.dim() - 1)).expand_as(slot.tensor)
