"""Convolved attention: a task's projections are those of a similar earlier task, filtered head by head.

    W_h <- Conv_kxk(W_h of the parent) + sigmoid(s_h) · W_h of the parent        for each head h of q, k and v

A task owns these filters and gates, the normalisation layers and the head; the first task of a stream trains the whole
network, which later ones find frozen. The parent is the task as which the network's features tell the new classes
apart best, by nearest class mean, each row left out of its mean.

Where rows do not say of which task they are, it is the one that is surest of them:

    task = argmin_t H(softmax(mean over views of the logits as task t))        H(p) = -sum_c p_c log(p_c + 1e-4)

with `views` random views of a row by `augment`, and the row itself, which counts `itself` times.

Paper:   "Exemplar-Free Continual Transformer with Convolutions" Roy et al. 2023. https://arxiv.org/abs/2308.11357
Claim:   with few tensors a task it forgets nothing where the task is told; where it is not, views of a row find its
         task better than the row alone, and it is far more accurate than plain training.
Needs:   a transformer whose projections are linear layers; `roles` says which, as in `numerics.roles`. `heads`: of each
         of q, k and v; none: as many as the network says.
Leaves:  `convolve`: what every task owns, its parent and its classes.
Differs: in the authors' code the parent is always the first task, and how similar tasks are is not computed; the paper
         compares them by a classifier on features, and does not fix which. New tasks begin with the parent's
         normalisation and head, which the code draws anew. A task's answers are among its own classes, as with the
         paper's head for each task. Of a network that pools by learned weights these stay as the first task left them.
Tags:    parameter isolation, exemplar-free, class-incremental, task-incremental
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Transform
from regraft.core.rows import Rows
from regraft.numerics.features import features_of
from regraft.numerics.per_task import PerTask, norms_and_head
from regraft.numerics.roles import heads_of, linear_layers, roles_of


@dataclass(frozen=True)
class convolve:
    kernel: int = 15
    heads: int | None = None
    roles: tuple[str, ...] = ("q", "k", "v")
    parent: Literal["similar", "random"] = "similar"
    augment: Transform | None = None
    views: int = 10
    itself: int = 6

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise RegraftError(f"convolve: the kernel is {self.kernel}; it must be odd and at least 1")
        if (self.heads is not None and self.heads < 1) or min(self.views, self.itself) < 0:
            raise RegraftError(f"convolve: {self.heads} heads, {self.views} views and {self.itself} of the row itself")
        if not self.itself and (self.augment is None or not self.views):
            raise RegraftError("convolve: a row is looked at in no view", do="Set `itself` to 1, or give an `augment`")

    def begin(self, ctx: Context) -> _Convolve:
        return _Convolve(self, ctx)


class Convolved(nn.Module):
    """W -> Conv(W) + sigmoid(s) W head by head, of the parent's W where that is another."""

    parent: Tensor | None

    def __init__(self, heads: int, kernel: int, parent: Tensor | None, dice: torch.Generator) -> None:
        super().__init__()
        bound = 1 / kernel  # as convolutions begin
        self.kernel = nn.Parameter((torch.rand(heads, 1, kernel, kernel, generator=dice) * 2 - 1) * bound)
        self.bias = nn.Parameter((torch.rand(heads, generator=dice) * 2 - 1) * bound)
        self.s = nn.Parameter(torch.ones(heads))
        self.register_buffer("parent", parent, persistent=False)

    def forward(self, W: Tensor) -> Tensor:
        W = W if self.parent is None else self.parent
        heads = W.unflatten(0, (len(self.s), -1))
        # Head by head: one convolution in groups is several times slower on a CPU.
        each = zip(heads[:, None], self.kernel[:, None], self.bias[:, None], strict=True)
        filtered = torch.cat([F.conv2d(W_h, k, b, padding="same") for W_h, k, b in each])
        found: Tensor = filtered + self.s.sigmoid()[:, None, None] * heads
        return found.flatten(0, 1)


class _Convolve(PerTask):
    key = "convolve"

    def __init__(self, part: convolve, ctx: Context) -> None:
        super().__init__(ctx)
        self.part = part
        left = ctx.memory.get(self.key, {"parents": {}, "classes": {}})
        self.parents: dict[int, int] = {int(task): parent for task, parent in left["parents"].items()}
        self.classes: dict[int, Tensor] = {int(task): classes for task, classes in left["classes"].items()}

    # --- learning

    def install(self, model: Model) -> None:
        rows = self.ctx.rows("new")
        if "y" in rows:
            self.classes[self.now] = torch.as_tensor(rows["y"]).unique()
        new = self.now not in self.tasks and not self.whole
        if new:
            self.parents[self.now] = self._parent(rows)
        super().install(model)
        if new:
            begin = self.tasks[self.parents[self.now]]
            model.load({name: begin[name] for name in self.plain(model.module)})

    def modules(self, network: nn.Module, task: int) -> Mapping[str, nn.Module]:
        parent = self.parents[task]
        found: dict[str, nn.Module] = {}
        for name, layer in linear_layers(network, self.part.roles, who="convolve").items():
            heads = self._heads(network, name, layer)
            if layer.out_features % heads:
                raise RegraftError(f"convolve: {name} gives {layer.out_features} numbers, not {heads} heads of them")
            W = None if parent == self.anchor else self._weight(name, layer, parent)
            found[name] = Convolved(heads, self.part.kernel, W, self.ctx.rng)
        return found

    def _heads(self, network: nn.Module, name: str, layer: nn.Linear) -> int:
        """Of a layer; of one that is q, k and v, those of all three."""
        if self.part.heads is None:
            return heads_of(network, name, layer.out_features, who=self.key)
        return self.part.heads * len(roles_of(name))

    @torch.no_grad()
    def _weight(self, name: str, layer: nn.Linear, task: int) -> Tensor:
        """A layer's weight as that task has it."""
        if task == self.anchor:
            return layer.weight.detach()
        W = self._weight(name, layer, self.parents[task])
        heads = self._heads(self.model.module, name, layer)
        module = Convolved(heads, self.part.kernel, None, self.ctx.rng).to(W)
        inside = f"{name}.parametrizations.weight.0."
        module.load_state_dict({n.removeprefix(inside): t for n, t in self.tasks[task].items() if n.startswith(inside)})
        found: Tensor = module(W)
        return found

    def plain(self, network: nn.Module) -> Collection[str]:
        return norms_and_head(self.model, self.key)

    def _parent(self, rows: Rows) -> int:
        known = sorted(self.tasks)
        if self.part.parent == "random":
            return known[int(torch.randint(len(known), (), generator=self.ctx.rng))]
        told_apart = []
        for task in known:
            with self._as(task):
                told_apart.append(_nearest_mean(*features_of(self.model, rows, self.key)))
        return known[told_apart.index(max(told_apart))]

    def leave(self) -> Mapping[str, Any]:
        own = super().leave()[self.key]
        parents = {str(task): parent for task, parent in self.parents.items()}
        return {self.key: {**own, "parents": parents, "classes": {str(t): c for t, c in self.classes.items()}}}

    # --- answering

    def logits(self, rows: Rows, task: int) -> Tensor:
        with parametrize.cached():
            found = super().logits(rows, task)
        if task not in self.classes:
            return found
        its = self.classes[task].to(found.device)
        return torch.full_like(found, -torch.inf).index_copy(1, its, found[:, its])

    def which(self, rows: Rows) -> Tensor:
        augment, known = self.part.augment, sorted(self.tasks)
        views = [] if augment is None else [augment(rows, self.ctx) for _ in range(self.part.views)]
        counts = torch.tensor([float(self.part.itself), *(1.0 for _ in views)])
        looked_at = Rows.join([rows, *views])
        unsure = []
        for task in known:
            each = self.logits(looked_at, task).unflatten(0, (len(counts), -1))
            p = ((counts / counts.sum()).to(each).view(-1, 1, 1) * each).sum(0).softmax(-1)
            unsure.append(-(p * (p + 1e-4).log()).sum(-1))
        return torch.tensor(known, device=unsure[0].device)[torch.stack(unsure).argmin(0)]


def _nearest_mean(phi: Tensor, y: Tensor) -> float:
    """The part of rows nearest to the mean of their own class, each left out of it."""
    _, which = y.unique(return_inverse=True)
    of = F.one_hot(which).to(phi)
    counts, sums = of.sum(0), of.T @ phi
    own = (sums[which] - phi) / (counts[which] - 1).clamp(min=1)[:, None]
    away = torch.cdist(phi, sums / counts[:, None])
    away[of.bool()] = (phi - own).norm(dim=1)
    return float((away.argmin(1) == which).double().mean())
