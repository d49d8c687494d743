"""A pool of prompts: each input brings those whose keys are nearest to it before a frozen transformer.

    x_e <- [P_m1; ...; P_mN; x_e]        m1 ... mN: the N largest of cos(q(x), k_m)

P_m: `length` places that are learned, put before the embedded input at the layer `at`; q: what the head reads without
them. After the layer `out` every place holds the mean of the prompts' places, unless the network goes on to `read` all;
then the prompts are behind the others, so that a class token is first again. As a loss it is -sum_i cos(q, k_mi), which
pulls the chosen keys to the query.

Paper:   "Learning to Prompt for Continual Learning" Wang et al. 2022. https://arxiv.org/abs/2112.08654
Claim:   on a pretrained transformer it is more accurate, without memory, than training it all, and at least as
         accurate as training the head alone.
Needs:   a pretrained transformer whose places pass the layers `at` and `out`; masks of attention are widened by the
         prompts, and places that are turned by their positions (rotary embeddings) cannot have them.
Leaves:  `prompt_pool`: prompts and keys.
Differs: each row chooses by itself, as in the paper; the authors' code lets a batch vote.
Tags:    prompts, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.numerics.pool import Arguments, Chosen, Pooled, cosines, new_keys
from regraft.numerics.roles import stack


@dataclass(frozen=True)
class prompt_pool:
    """`size`: the paper's M. `at`, `out`: layers by name; none: the first block, and the normalisation behind the last
    one, or that block itself where no such layer gives all places."""

    size: int = 10
    N: int = 5
    length: int = 5
    at: str = ""
    out: str = ""
    read: Literal["prompts", "all"] = "prompts"

    def __post_init__(self) -> None:
        if not 1 <= self.N <= self.size:
            raise RegraftError(f"prompt_pool: N is {self.N}; it must be at least 1 and at most the size, {self.size}")
        if self.length < 1:
            raise RegraftError(f"prompt_pool: the length is {self.length}; it must be at least 1")

    def begin(self, ctx: Context) -> _PromptPool:
        return _PromptPool(self, ctx)


class Prompts(nn.Module):
    def __init__(self, size: int, length: int, width: int, query: int, dice: torch.Generator) -> None:
        super().__init__()
        self.keys = new_keys(size, query, dice)
        self.prompts = nn.Parameter(torch.rand(size, length, width, generator=dice) * 2 - 1)


class _PromptPool(Pooled):
    key = "prompt_pool"

    def __init__(self, part: prompt_pool, ctx: Context) -> None:
        super().__init__(ctx)
        self.part = part

    def fill(self, network: nn.Module) -> None:
        part, (blocks, norms) = self.part, stack(network)
        if not blocks and not (part.at and part.out):
            raise RegraftError("prompt_pool: the network has no list of blocks that attend")
        self.outs = (part.out,) if part.out else (*norms, blocks[-1])
        self.widths: dict[str, int] = {}
        for name in self.outs:
            self.watch(self.layer(name), partial(self._watched, name))
        keys, prompts = self.kept("keys"), self.kept("prompts")
        query = self.width if keys is None else keys.shape[1]
        width = self.widths[self._out()] if prompts is None else prompts.shape[-1]
        self.pool = Prompts(part.size, part.length, width, query, self.ctx.rng)
        self.put(self.pool)
        self.into(self.layer(part.at or blocks[0]), self._before)
        for name in blocks:
            self.into(self.layer(name), self._seen_by_all)
        for name in self.outs:
            self.behind(self.layer(name), partial(self._after, name))

    def _watched(self, name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 3:
            self.widths[name] = output.shape[-1]

    def _out(self) -> str:
        """The first of the layers that may be `out` that gives all places."""
        if (name := next((name for name in self.outs if name in self.widths), None)) is None:
            raise RegraftError(f"prompt_pool: {' and '.join(self.outs)} give no places [rows, places, width]")
        return name

    def _before(self, arguments: Arguments, chosen: Chosen) -> Arguments:
        (x, *others), named = arguments
        if "position_embeddings" in named:
            raise RegraftError("prompt_pool: the network's blocks turn each place by its position; prompts have none")
        return (torch.cat([self.pool.prompts[chosen.entries].flatten(1, 2), x], 1), *others), named

    def _seen_by_all(self, arguments: Arguments, _: Chosen) -> Arguments:
        """Masks of attention [rows, heads, places, places], with the prompts, which see what others see."""
        (x, *others), named = arguments
        return (x, *map(self._widened, others)), {name: self._widened(given) for name, given in named.items()}

    def _widened(self, mask: Any) -> Any:
        if not isinstance(mask, Tensor) or mask.dim() != 4:
            return mask
        count = self.part.N * self.part.length
        wide = F.pad(mask, (count, 0), value=mask.dtype == torch.bool)
        return torch.cat([wide[:, :, :1].expand(-1, -1, count, -1), wide], 2) if mask.shape[2] > 1 else wide

    def _after(self, name: str, _: Tensor, output: Tensor, chosen: Chosen) -> Tensor:
        if name != self._out():
            return output
        places = self.part.N * self.part.length
        prompts, others = output[:, :places], output[:, places:]
        if self.part.read == "all":
            return torch.cat([others, prompts], 1)
        return prompts.mean(1, keepdim=True).expand_as(output)

    def choose(self, q: Tensor) -> Chosen:
        near, entries = cosines(q, self.pool.keys).topk(self.part.N)
        return Chosen(entries, torch.ones_like(near))

    def near(self, q: Tensor) -> Tensor:
        return cosines(q, self.pool.keys).topk(self.part.N).values.sum(-1)
