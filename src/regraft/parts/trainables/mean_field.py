"""A Gaussian posterior over the head, by variational inference: what the last update left is the prior.

    mean_r -log p(y_r | x_r, theta) + KL(q | q') / n        theta ~ q = N(mu, diag sigma²)

q': the posterior after the last update; in a first one N(0, std²). q begins there, and the head's tensors are mu. In
training the logits are drawn, one draw a row (h: what the head reads):

    logits = mu h + e · sqrt(sigma² h²)        e ~ N(0, 1)

which is a draw of theta for every row. The part stands in a plan twice: in its trainables, for the draws, and in its
penalties at weight 1, for the divergence, with n the rows named by `source`. Beside `slow(0.0)` the network under the
head is frozen. Several posteriors of one stream, each from a prior of its own, are told apart by `member`.

Paper:   "IBCL: Zero-shot Model Generation for Task Trade-offs in Continual Learning" Lu et al. 2023.
         https://arxiv.org/abs/2305.14782
Needs:   a model with a head.
Leaves:  `mean_field`: mu and sigma by member, of the head's weight and then its bias.
Differs: the authors' code begins every task's q at N(0, 1), draws one theta a batch, and adds the whole divergence to
         the sum over each batch; here each row weighs the same against it in batches of any size.
Tags:    variational, weight regularisation, exemplar-free
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot, Weights
from regraft.numerics.features import head_name
from regraft.numerics.mean_field import divergence


@dataclass(frozen=True)
class mean_field:
    std: float = 0.25
    member: int = 0
    source: str = "new"

    def __post_init__(self) -> None:
        if not 0 < self.std < float("inf"):
            raise RegraftError(f"mean_field: std is {self.std}; it must be over 0")

    def begin(self, ctx: Context) -> _MeanField:
        return _MeanField(self, ctx)


class _Spread(nn.Module):
    """log sigma of the head's tensors."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def drawn(self, h: Tensor, logits: Tensor) -> Tensor:
        bias = None if self.bias is None else (2 * self.bias).exp()
        variance = F.linear(h.square(), (2 * self.weight).exp(), bias)
        return logits + variance.clamp(min=torch.finfo(logits.dtype).tiny).sqrt() * torch.randn_like(logits)


class _MeanField:
    def __init__(self, part: mean_field, ctx: Context) -> None:
        self.part, self.ctx = part, ctx
        self.head = head_name(ctx.models["student"], "mean_field")
        self.left: Mapping[str, Any] = ctx.memory.get("mean_field", {})

    def install(self, model: Model) -> None:
        layer: Any = model.module.get_submodule(self.head)
        self.tensors = {n: t.detach() for n in ("weight", "bias") if (t := getattr(layer, n)) is not None}
        mu, sigma = self._prior()
        model.load({f"{self.head}.{name}": tensor for name, tensor in mu.items()})
        self.prior = mu, sigma
        self.spread = _Spread(sigma["weight"].log(), sigma["bias"].log() if "bias" in sigma else None)
        layer.add_module("mean_field", self.spread)

        def hook(layer: Any, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            spread: _Spread = layer.mean_field
            return spread.drawn(inputs[0], logits) if layer.training else logits

        self.hook = layer.register_forward_hook(hook)

    def _prior(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        sizes = [tensor.numel() for tensor in self.tensors.values()]
        like = self.tensors["weight"]
        if (left := self.left.get(str(self.part.member))) is None:
            flat = like.new_zeros(sum(sizes)), like.new_full((sum(sizes),), self.part.std)
        else:
            flat = left["mu"].to(like), left["sigma"].to(like)
        if len(flat[0]) != sum(sizes):
            raise RegraftError(f"mean_field: the memory is of {len(flat[0])} weights; the head has {sum(sizes)}")
        mu, sigma = (
            {n: t.view_as(own) for (n, own), t in zip(self.tensors.items(), f.split(sizes), strict=True)} for f in flat
        )
        return mu, sigma

    def multiplier(self, slot: Slot) -> float:
        return 1.0

    def penalty(self, weights: Weights) -> Tensor:
        mu, sigma = self.prior
        each = [
            divergence(weights[f"{self.head}.{name}"], getattr(self.spread, name), mu[name], sigma[name]) for name in mu
        ]
        return torch.stack(each).sum() / self.ctx.rows(self.part.source).count

    def leave(self) -> Mapping[str, Any]:
        weights = self.ctx.models["student"].weights()
        mu = torch.cat([weights[f"{self.head}.{name}"].detach().flatten() for name in self.tensors])
        sigma = torch.cat([getattr(self.spread, name).detach().exp().flatten() for name in self.tensors])
        return {"mean_field": {**self.left, str(self.part.member): {"mu": mu.cpu(), "sigma": sigma.cpu()}}}

    def fold(self, model: Model) -> None:
        self.hook.remove()
        del model.module.get_submodule(self.head).mean_field
