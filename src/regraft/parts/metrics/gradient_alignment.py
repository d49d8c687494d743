"""Whether learning the new also helps the old: how the gradients of their losses align.

    inner  = <g_new, g_old>        g = gradient of the pooled mean loss on the rows
    cosine = inner / (|g_new| |g_old|)

A small step of size lr along -g_new lowers the old loss by lr · inner, so above 0 is transfer and below 0 interference.
Replay with Reptile steps (MER) is meant to raise it. Where training on both comes to rest the two gradients cancel and
the cosine falls towards -1: compare models that are equally far from there.

Paper:   "Revisiting Replay and Gradient Alignment for Continual Pre-Training of Large Language Models"
         Abbes et al. 2025. https://arxiv.org/abs/2508.01908
Claim:   higher after replay with Reptile steps than after replay alone.
Needs:   rows `new` and `old` in the data; all rows of each are read in one pass, so give a sample.
Differs: the paper's inner products are between batches on the way; here they are between two fixed samples.
Tags:    forgetting, transfer, task-free
"""

from __future__ import annotations

import math

from torch import Tensor

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Loss, Measurement, Model
from regraft.core.rows import Rows


def inner_product(a: Grads, b: Grads) -> dict[str, float]:
    """The inner product tensor by tensor, in double precision; a gradient that is not there is 0.

    Raises:
        RegraftError: a gradient that is not finite, by name.
    """
    found = {n: float((_flat(a[n]) * _flat(b[n])).sum()) for n in a.keys() & b.keys()}
    if bad := sorted(n for n, value in found.items() if not math.isfinite(value)):
        raise RegraftError(f"the gradient of {bad[0]} is not finite", where="gradient_alignment")
    return dict(sorted(found.items()))


def alignment(new: Grads, old: Grads) -> Measurement:
    """`inner`, `norm/new`, `norm/old`, and `cosine` unless a norm is 0; the table `cosine` has it tensor by tensor."""
    squares = {role: inner_product(g, g) for role, g in (("new", new), ("old", old))}
    inner = inner_product(new, old)
    norms = {f"norm/{role}": math.sqrt(sum(each.values())) for role, each in squares.items()}
    sizes = {n: math.sqrt(squares["new"][n] * squares["old"][n]) for n in inner}
    whole, size = sum(inner.values()), math.prod(norms.values())
    cosine = {"cosine": whole / size} if size else {}
    return Measurement(
        {"inner": whole, **cosine, **norms}, {"cosine": {n: inner[n] / s for n, s in sizes.items() if s}}
    )


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().double().flatten()


@metric
def gradient_alignment(model: Model, ctx: Context, *, loss: Loss, new: str = "new", old: str = "old") -> Measurement:
    return alignment(*(ctx.gradient(_some(ctx, name), loss) for name in (new, old)))


def _some(ctx: Context, name: str) -> Rows:
    if not (rows := ctx.rows(name)):
        raise RegraftError(f"rows {name!r} are empty: they have no gradient")
    return rows
