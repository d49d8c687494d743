"""A hypernetwork: the weights of the network are made by a second one, from a few numbers a task.

An old task is kept by keeping its numbers, and by asking that what they give stays what it was.

    theta = mean + scale · H(e_t, c_1 .. c_C; phi)        e_t: the task's embedding, c: embeddings of chunks of theta
    L + beta / (t - 1) sum_{s<t} sum_i F_si (theta*_si - theta_si(phi + dphi))²        dphi = -lookahead · dL/dphi

theta*: what phi gave before the update. H is an LSTM along the chunks, in the order of layers, so that the weights of a
layer depend on those before; or with `recurrent=False` a perceptron on every chunk by itself. With `weighted`, F is the
diagonal Fisher information of the task's own weights at its end, over its mean; without, 1.

Paper:   "Continual Learning with Dependency Preserving Hypernetworks" Chandra et al. 2022. https://arxiv.org/abs/2209.07712
Paper:   "Continual learning with hypernetworks" von Oswald et al. 2020. https://arxiv.org/abs/1906.00695
Needs:   rows that say in column `task` of which task they are; also in the plan's gradients, for the second term.
Leaves:  `hypernet`: phi, every task's embedding and buffers; with `weighted` F, which is as large as the network.
Differs: of the first paper only abstract and introduction were at hand: its recurrence over layers and a weighted
         regulariser are here, its growth of the hypernetwork is not. The Fisher weights are those of an option in the
         second paper's code, without its scale. mean and scale are those of each tensor as the network began, in place
         of an initialisation of H; H begins with variance 1. dphi is the step of plain gradient descent,
         and is left out by default.
Tags:    hypernetworks, task-incremental, exemplar-free
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Model, Slot
from regraft.core.rows import Rows
from regraft.numerics.choice import by_group
from regraft.numerics.classes import task_of
from regraft.numerics.dice import seeded
from regraft.numerics.fisher import diagonal_fisher
from regraft.numerics.places import places, put_over, taken_out
from regraft.numerics.tensors import buffers, on_cpu


@dataclass(frozen=True)
class hypernet:
    recurrent: bool = True
    beta: float = 0.01
    weighted: bool = True
    embedding: int = 32
    hidden: int = 32
    chunk: int = 1000
    lookahead: float = 0.0
    source: str = "new"

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "chunk"):
            if getattr(self, name) < 1:
                raise RegraftError(f"hypernet: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("beta", "lookahead"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise RegraftError(f"hypernet: {name} is {getattr(self, name)}; it must be 0 or more")

    def begin(self, ctx: Context) -> _Run:
        return _Run(self, ctx)


class Chunks(nn.Module):
    """H: an embedding -> `size` numbers, in chunks."""

    def __init__(self, part: hypernet, size: int) -> None:
        super().__init__()
        width, h = 2 * part.embedding, part.hidden
        self.size = size
        self.c = nn.Parameter(torch.randn(-(-size // part.chunk), part.embedding))
        self.body: nn.Module = (
            nn.LSTM(width, h) if part.recurrent else nn.Sequential(nn.Linear(width, h), nn.ReLU(), nn.Linear(h, h))
        )
        self.out = nn.Linear(h, part.chunk)

    def forward(self, e: Tensor) -> Tensor:
        h = self.body(torch.cat([e.expand(len(self.c), -1), self.c], 1))
        made: Tensor = self.out(h[0] if isinstance(h, tuple) else h.relu())
        return made.flatten()[: self.size]


class _Maker(nn.Module):
    """H, the embedding of the task that is learned, and theta while the network reads."""

    def __init__(self, H: Chunks, e: Tensor, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.H, self.e = H, nn.Parameter(e)
        self.mean, self.scale = mean, scale
        self.theta: Tensor | None = None

    def made(self) -> Tensor:
        return self.mean + self.scale * self.H(self.e) if self.theta is None else self.theta


class _Made(nn.Module):
    """A tensor of the network, cut out of theta. The first of them owns the maker's tensors."""

    def __init__(self, maker: _Maker, begin: int, *, owns: bool) -> None:
        super().__init__()
        self.maker = maker if owns else None
        self.other = (maker,)  # in a tuple, so that its tensors are not this module's too
        self.begin = begin

    def forward(self, W: Tensor) -> Tensor:
        return self.other[0].made()[self.begin : self.begin + W.numel()].view_as(W)


class _Run:
    def __init__(self, part: hypernet, ctx: Context) -> None:
        self.part, self.ctx, self.model = part, ctx, ctx.models["student"]
        self.left: Mapping[str, Any] = ctx.memory.get("hypernet", {})
        self.embeddings: dict[int, Tensor] = {int(t): e for t, e in self.left.get("embeddings", {}).items()}
        self.now = -1
        if part.source in ctx.data:
            if (said := task_of(ctx, part.source, "hypernet")) is None:
                raise RegraftError(
                    f"hypernet: the rows {part.source!r} must say in column 'task' of which one they are"
                )
            self.now = said
        self.before: dict[int, Tensor] = {}  # theta* of the other tasks
        self._hooks: list[Any] = []

    # --- the network

    def install(self, model: Model) -> None:
        at = places(model.module, [slot.name for slot in model.slots() if slot.kind == "base"], who="hypernet")
        tensors = {name: getattr(layer, own).detach() for name, (layer, own) in at.items()}
        if odd := next((n for n, t in tensors.items() if t.dtype != next(iter(tensors.values())).dtype), None):
            raise RegraftError(f"hypernet: the tensor {odd!r} is of another kind of number than the others")
        self.maker = maker = self._maker(tensors)
        begin = 0
        for i, (name, (layer, own)) in enumerate(at.items()):
            put_over(layer, own, _Made(maker, begin, owns=i == 0), who="hypernet")
            begin += tensors[name].numel()
        if self.now in self.embeddings:
            model.load(self.left["buffers"].get(str(self.now), {}))
        self.names = {id(slot.tensor): slot.name for slot in model.slots()}
        self.slots = {name: self.names[id(p)] for name, p in maker.H.named_parameters()}

        def begun(*_: Any) -> None:
            maker.theta = maker.made()

        def ended(*_: Any) -> None:
            maker.theta = None

        self._hooks = [
            model.module.register_forward_pre_hook(begun),
            model.module.register_forward_hook(ended, always_call=True),
        ]

    def _maker(self, tensors: Mapping[str, Tensor]) -> _Maker:
        """H as earlier updates left it, or as it begins."""
        part, like = self.part, next(iter(tensors.values()))
        sizes = torch.tensor([t.numel() for t in tensors.values()])
        with seeded(int(torch.randint(2**62, (), generator=self.ctx.rng))):
            H, e = Chunks(part, int(sizes.sum())), torch.randn(part.embedding)
        H, e = H.to(like), self.embeddings.get(self.now, e).to(like)
        if self.left:
            moments = self.left["moments"]
            if moments["sizes"].tolist() != sizes.tolist() or any(
                name not in self.left["phi"] or self.left["phi"][name].shape != p.shape
                for name, p in H.named_parameters()
            ):
                raise RegraftError("hypernet: the memory is of another network or of other knobs", do="Begin anew")
            H.load_state_dict(self.left["phi"])
        else:
            with torch.no_grad():
                spread = H(e).std()
                for tensor in (H.out.weight, H.out.bias):
                    tensor.div_(spread)
            means = [float(t.mean()) for t in tensors.values()]
            scales = [float(t.std(correction=0)) or 0.1 for t in tensors.values()]
            moments = {"mean": torch.tensor(means), "scale": torch.tensor(scales), "sizes": sizes}
        self.moments = moments
        mean, scale = (moments[name].repeat_interleave(sizes).to(like) for name in ("mean", "scale"))
        maker = _Maker(H, e, mean, scale)
        if self.left and part.beta:
            with torch.no_grad():
                known = {t: e for t, e in self.embeddings.items() if t != self.now}
                self.before = {t: mean + scale * H(e.to(like)) for t, e in known.items()}
        return maker

    def multiplier(self, slot: Slot) -> float:
        return 1.0 if slot.kind == "adapter" else 0.0

    def fold(self, model: Model) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        taken_out(model.module, _Made)

    # --- the second term

    def update(self, grads: Grads) -> Grads:
        if not self.before:
            return grads
        maker, found = self.maker, dict(grads)
        phi = {
            name: (p.detach() - self.part.lookahead * grads.get(self.slots[name], 0.0)).requires_grad_()
            for name, p in maker.H.named_parameters()
        }
        importance = self.left.get("importance", {})
        with torch.enable_grad():
            total = torch.zeros((), dtype=maker.e.dtype, device=maker.e.device)
            for t, before in self.before.items():
                now = maker.mean + maker.scale * functional_call(maker.H, phi, (self.embeddings[t].to(before),))
                moved = (before - now).square()
                total = total + (moved * importance[str(t)].to(moved) if self.part.weighted else moved).sum()
            slopes = torch.autograd.grad(self.part.beta / len(self.before) * total, list(phi.values()))
        for name, slope in zip(phi, slopes, strict=True):
            slot = self.slots[name]
            found[slot] = found[slot] + slope if slot in found else slope
        return found

    def leave(self) -> Mapping[str, Any]:
        now = str(self.now)
        self.fold(self.model)  # what is left is of the network that was made
        left = {
            "phi": on_cpu(self.maker.H.state_dict()),
            "embeddings": {**self.left.get("embeddings", {}), **on_cpu({now: self.maker.e})},
            "buffers": {**self.left.get("buffers", {}), now: on_cpu(buffers(self.model))},
            "moments": self.moments,
        }
        if self.part.weighted:
            left["importance"] = {**self.left.get("importance", {}), now: self._fisher()}
        return {"hypernet": left}

    def _fisher(self) -> Tensor:
        """F of the weights that this task has, as one vector over its mean."""
        F = diagonal_fisher(self.model, self.ctx.rows(self.part.source))
        flat = torch.cat([F[slot.name].flatten() for slot in self.model.slots() if slot.kind == "base"]).cpu()
        return flat / flat.mean().clamp(min=torch.finfo(flat.dtype).tiny)

    # --- answering

    def answer(self, rows: Rows) -> Tensor:
        if "task" not in rows:
            raise RegraftError("hypernet: rows must say in column 'task' of which task they are")
        return by_group(rows, rows["task"], self._logits)

    def _logits(self, rows: Rows, t: int) -> Tensor:
        with self._as(t):
            return self.model.read(rows).logits

    @contextmanager
    def _as(self, t: int) -> Iterator[None]:
        """The network of a task, for a while; of one that was not learned yet, the network as it is."""
        if t not in self.embeddings:
            yield
            return
        state = {name: tensor.detach().clone() for name, tensor in self.model.state().items()}
        slots = self.model.slots()
        like, sizes = slots[0].tensor, self.left["moments"]["sizes"]
        H = Chunks(self.part, int(sizes.sum())).to(like)
        H.load_state_dict(self.left["phi"])
        mean, scale = (self.left["moments"][n].repeat_interleave(sizes).to(like) for n in ("mean", "scale"))
        with torch.no_grad():
            made = (mean + scale * H(self.embeddings[t].to(like))).split(sizes.tolist())
        tensors = {slot.name: piece.view_as(slot.tensor) for slot, piece in zip(slots, made, strict=True)}
        try:
            self.model.load({**tensors, **self.left["buffers"].get(str(t), {})})
            yield
        finally:
            self.model.load(state)
