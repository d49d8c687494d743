"""The subspaces that layers read in, and steps off them.

    a step d of W leaves the answers to inputs in span(M) alone where d M = 0:        d <- d - d M Mᵀ

M [in, k], orthonormal, is the fewest left singular vectors of R [in, inputs] that keep a part of its energy,

    ||M Mᵀ R||² >= energy · ||R||²

with what a layer read in the columns of R; of a convolution, the patches under its kernel. They are the eigenvectors of
R Rᵀ, which is gathered chunk by chunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model
from regraft.core.rows import Rows
from regraft.numerics.evaluating import evaluating
from regraft.numerics.features import head_if_any

CHUNK_ROWS = 64
READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def steady(model: Model, part: str) -> None:
    """Raises RegraftError for a layer whose running statistics change its answers, whatever its weights do."""
    for name, layer in model.module.named_modules():
        if getattr(layer, "running_mean", None) is not None:
            raise RegraftError(
                f"{part}: layer {name!r} keeps running statistics, which no projected step can hold",
                do="Normalise by layers or groups instead",
            )


def of_one_task(ctx: Context, source: str) -> set[str]:
    """The tensors that a task does not share: those of the head, where rows say of which task they are."""
    head = head_if_any(ctx.models["student"])
    told = source in ctx.data and "task" in ctx.data[source]
    return {f"{head}.weight", f"{head}.bias"} if told and head is not None else set()


@torch.no_grad()
def inputs(model: Model, rows: Rows) -> dict[str, Tensor]:
    """R Rᵀ of every linear and convolutional layer, float64 [in, in], by the name of its weight; in evaluation mode.

    A weight that other layers read, too (an embedding), is left out.
    """
    names = {id(slot.tensor): slot.name for slot in model.slots() if slot.kind == "base"}
    others = {
        id(p) for layer in model.module.modules() if not isinstance(layer, READERS) for p in layer.parameters(False)
    }
    total: dict[str, Any] = defaultdict(float)

    def gather(layer: Any, read: tuple[Tensor, ...]) -> None:
        vectors = _vectors(layer, read[0]).double()
        total[names[id(layer.weight)]] += vectors.T @ vectors

    layers = [layer for layer in model.module.modules() if isinstance(layer, READERS)]
    hooks = [
        layer.register_forward_pre_hook(gather)
        for layer in layers
        if id(layer.weight) in names and id(layer.weight) not in others
    ]
    try:
        with evaluating(model):
            for chunk in rows.chunks(CHUNK_ROWS):
                model.read(chunk.to(model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return dict(total)


def _vectors(layer: Any, a: Tensor) -> Tensor:
    """What the rows of the layer's weight are multiplied with, [inputs, in]."""
    if isinstance(layer, nn.Linear):
        return a.flatten(0, -2)
    width = layer.weight[0].numel()
    one = torch.eye(width, dtype=a.dtype, device=a.device).view(width, *layer.weight.shape[1:])
    patches = layer._conv_forward(a, one.repeat(layer.groups, *[1] * (one.dim() - 1)), None)
    spread: Tensor = patches.unflatten(-layer.weight.dim() + 1, (layer.groups, width)).flatten(2 - layer.weight.dim())
    return spread.movedim(-2, -1).flatten(0, -2)


def basis(moments: Tensor, energy: float, known: Tensor | None = None) -> Tensor:
    """M for R Rᵀ = `moments`, float64 [in, k]: the columns of `known`, and as few more as the energy asks for."""
    M = moments.new_zeros(len(moments), 0) if known is None else known.to(moments)
    off = torch.eye(len(moments)).to(moments) - M @ M.T
    rest = off @ moments @ off
    sizes, vectors = torch.linalg.eigh((rest + rest.T) / 2)
    sizes, vectors = sizes.flip(0).clamp(min=0), vectors.flip(1)
    total = moments.trace()
    missing = energy * total - (total - sizes.sum()).clamp(min=0)
    tiny = total * len(moments) * torch.finfo(moments.dtype).eps
    if missing <= tiny:
        return M
    enough = int((sizes.cumsum(0) < missing - tiny).sum()) + 1
    return torch.cat([M, vectors[:, : min(enough, int((sizes > tiny).sum()))]], dim=1)


def joined(bases: Mapping[Any, Tensor]) -> Tensor:
    """The span of all."""
    first = next(iter(bases.values()))
    return basis(sum((M @ M.T for M in bases.values()), torch.zeros(len(first), len(first)).to(first)), 1.0)


def within(x: Tensor, M: Tensor) -> Tensor:
    """The part of a weight, or of a step of it, that acts on inputs in span(M)."""
    M = M.to(x)
    return (x.flatten(1) @ M @ M.T).view_as(x)
