"""A pool of prompts: each input brings those whose keys are nearest to it before a frozen transformer.

    x_e <- [P_m1; ...; P_mN; x_e]        m1 ... mN: the N largest of cos(q(x), k_m)

P_m: `length` places that are learned, put before the embedded input at the layer `at`; q: what the head reads without
them. After the layer `out` every place holds the mean of the prompts' places, unless the network goes on to `read` all;
then the prompts are behind the others, so that a class token is first again. As a loss it is -sum_i cos(q, k_mi), which
pulls the chosen keys to the query.

Paper:   "Learning to Prompt for Continual Learning" Wang et al. 2022. https://arxiv.org/abs/2112.08654
Claim:   on a pretrained transformer it is more accurate, without memory, than training it all, and at least as
         accurate as training the head alone.
Needs:   a pretrained transformer whose places pass the layers `at` and `out`, the latter a normalisation.
Leaves:  `prompt_pool`: prompts and keys.
Differs: each row chooses by itself, as in the paper; the authors' code lets a batch vote.
Tags:    prompts, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.numerics.pool import Chosen, Pooled, cosines, new_keys


@dataclass(frozen=True)
class prompt_pool:
    """`size`: the paper's M."""

    size: int = 10
    N: int = 5
    length: int = 5
    at: str = "blocks"
    out: str = "norm"
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
        part, norm = self.part, self.layer(self.part.out)
        if not isinstance(scale := getattr(norm, "weight", None), Tensor):
            raise RegraftError(f"prompt_pool: the layer {part.out!r} is no normalisation that has a weight")
        kept = self.kept("keys")
        query = self.width if kept is None else kept.shape[1]
        self.pool = Prompts(part.size, part.length, scale.shape[-1], query, self.ctx.rng)
        self.put(self.pool)
        self.into(self.layer(part.at), self._before)
        self.behind(norm, self._after)

    def _before(self, x: Tensor, chosen: Chosen) -> Tensor:
        return torch.cat([self.pool.prompts[chosen.entries].flatten(1, 2), x], 1)

    def _after(self, _: Tensor, output: Tensor, chosen: Chosen) -> Tensor:
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
