"""Experts in one network: when its loss says that rows are no longer its own, one that knows them takes over, or a new.

Nobody says where tasks begin.

    S_e <- a L + (1 - a) S_e            L: the mean loss of the batch
    e is left when  S_e > m_e + k s_e   m_e, s_e: mean and deviation of its last `window` losses
    next: the expert that is least in  a L_e' + (1 - a) S_e'  among those at or under their own m + k s; else a new one

An expert is every tensor of the network; a new one begins as the network did before the first update. Where they are
`bounded`, outputs are sigmoids, so that the loss has no spikes. At a test a selector chooses the expert of each row: a
perceptron on a uniform sample of inputs, each with the expert that was active when it came. The sample is kept as the
`size` rows with the highest of random priorities.

Paper:   "TAME: Task Agnostic Continual Learning using Multiple Experts" Zhu et al. 2024. https://arxiv.org/abs/2210.03869
Needs:   a classifier of rows with numbers in column `x`; the feed named by `source`. One batch under another expert per
         expert, only in a step that leaves one.
Leaves:  `experts`: the weights of those that are not active (the network is the active one), their losses, the sample,
         the selector, and `turns`: after how many batches which expert took over.
Differs: the number of experts has a limit, because an optimizer knows its tensors from the beginning; when it is
         reached, the expert with the least loss goes on. A step is taken before its loss is looked at, so that a change
         is seen one step later. A loss is judged once an expert has had `least`; in code of the method that we saw, s_e
         counts as at least 0.005, and the first expert that fits is taken. Experts are not pruned. The smoothed
         loss of an expert that is left is set back to m_e.
Tags:    task-free, mixture of experts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Outcome, Slot, Stateful, of_own_task
from regraft.core.rows import Rows
from regraft.numerics.choice import by_group
from regraft.numerics.evaluating import evaluating
from regraft.numerics.places import places, put_over, taken_out
from regraft.numerics.selector import learned_selector, selected
from regraft.numerics.tensors import on_cpu


@dataclass(frozen=True)
class experts:
    most: int = 8
    a: float = 0.2
    window: int = 100
    k: float = 3.0
    least: int = 20
    size: int = 500
    bounded: bool = True
    hidden: int = 128
    selector_steps: int = 500
    source: str = "new"

    def __post_init__(self) -> None:
        for name, least in {"most": 1, "window": 2, "least": 2, "size": 1, "hidden": 1, "selector_steps": 1}.items():
            if getattr(self, name) < least:
                raise RegraftError(f"experts: {name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.a <= 1:
            raise RegraftError(f"experts: a is {self.a}; it must be over 0 and at most 1")
        if not self.k >= 0:
            raise RegraftError(f"experts: k is {self.k}; it must be 0 or more")

    def begin(self, ctx: Context) -> _Experts:
        return _Experts(self, ctx)


class _Active:
    """The number of the expert that every layer uses."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Choice(nn.Module):
    """A tensor of the active expert. The network's own tensor is that of the expert `own`."""

    def __init__(self, others: Mapping[int, Tensor], own: int, active: _Active) -> None:
        super().__init__()
        self.others = nn.ParameterDict({str(e): nn.Parameter(tensor) for e, tensor in others.items()})
        self.own, self.active = own, active

    def forward(self, W: Tensor) -> Tensor:
        return self.of(self.active.number, W)

    def of(self, e: int, W: Tensor) -> Tensor:
        return W if e == self.own else self.others[str(e)]


class _Experts(Stateful):
    state = ("number", "used", "smoothed", "losses", "seen", "batches", "turns", "buffers", "sample", "dice")
    wants: tuple[Literal["logits", "features"], ...] = ("logits",)

    def __init__(self, part: experts, ctx: Context) -> None:
        self.part, self.model, self.dice = part, ctx.models["student"], ctx.rng
        left = ctx.memory.get("experts", {})
        self.active = _Active(left.get("active", 0))
        self.used: int = left.get("used", 1)
        if self.used > part.most:
            raise RegraftError(f"experts: memory has {self.used} of them; most is {part.most}", do="Raise it")
        self.weights: dict[int, dict[str, Tensor]] = {int(e): w for e, w in left.get("weights", {}).items()}
        self.first: dict[str, Tensor] = left.get("first", {})
        self.selector: dict[str, Tensor] = left.get("selector", {})
        self.sample: dict[str, Tensor] = dict(left.get("sample", {}))
        self.losses: list[list[float]] = [list(each) for each in left.get("losses", [[]])]
        self.smoothed: list[float] = list(left.get("smoothed", [0.0]))
        self.seen: list[int] = list(left.get("seen", [0]))
        self.batches: int = left.get("batches", 0)
        self.turns: list[list[int]] = [list(turn) for turn in left.get("turns", [[0, 0]])]
        self.buffers: dict[str, dict[str, Tensor]] = {}
        self.held: dict[str, Any] = {}  # each tensor's parametrisation, while they are installed
        self._hook: Any = None

    @property
    def number(self) -> int:
        return self.active.number

    @number.setter
    def number(self, e: int) -> None:
        self.active.number = e

    # --- the network

    def install(self, model: Model) -> None:
        state = {name: tensor.detach().clone() for name, tensor in model.state().items()}
        self.first = self.first or {name: tensor.cpu() for name, tensor in state.items()}
        if self.part.bounded:
            self._hook = model.module.register_forward_hook(lambda _, __, output: output.sigmoid())
        if self.part.most == 1:
            return
        begun = {e: self.weights.get(e, self.first) for e in range(self.part.most) if e != self.number}
        tensors = places(model.module, [slot.name for slot in model.slots() if slot.kind == "base"], who="experts")
        self.buffers = {str(e): {n: t for n, t in w.items() if n not in tensors} for e, w in begun.items()}
        for name, (layer, own) in tensors.items():
            here = getattr(layer, own)
            choice = _Choice({e: w[name].to(here).clone() for e, w in begun.items()}, self.number, self.active)
            put_over(layer, own, choice, who="experts")
            self.held[name] = layer.parametrizations[own]  # type: ignore[index]

    def multiplier(self, slot: Slot) -> float:
        return 1.0

    def fold(self, model: Model) -> None:
        if self._hook is not None:
            self._hook.remove()
        taken_out(model.module, _Choice)
        self.held.clear()

    def _turn_to(self, e: int) -> None:
        """Makes an expert the active one, its running statistics too."""
        if e == self.number:
            return
        state = self.model.state()
        new = self.buffers.pop(str(e))
        self.buffers[str(self.number)] = on_cpu({name: state[name] for name in new})
        self.model.load(new)
        self.number = e

    @contextmanager
    def _as(self, e: int) -> Iterator[None]:
        """An expert in evaluation mode, for a while."""
        now = self.number
        self._turn_to(e)
        try:
            with evaluating(self.model), torch.no_grad():
                yield
        finally:
            self._turn_to(now)

    # --- which expert

    def observe(self, outcome: Outcome) -> None:
        if outcome.feed != self.part.source or self.part.most == 1:
            return
        self.batches += 1
        e, rows = self.number, outcome.rows
        L = self._loss(outcome.outputs["logits"], rows)
        self.smoothed[e] = self._smoothed(e, L)
        if self.seen[e] >= self.part.least and self.smoothed[e] > self._limit(e):
            self._leave_for_another(L, rows)
        else:
            self._note(e, L)
        self._keep(rows)

    def _loss(self, logits: Tensor, rows: Rows) -> float:
        logits = of_own_task(logits, self.model, rows)
        return float(F.cross_entropy(logits, rows["y"].to(logits.device)))

    def _smoothed(self, e: int, L: float) -> float:
        return L if not self.seen[e] else self.part.a * L + (1 - self.part.a) * self.smoothed[e]

    def _limit(self, e: int) -> float:
        last = torch.tensor(self.losses[e], dtype=torch.float64)
        return float(last.mean() + self.part.k * last.std(correction=0))

    def _note(self, e: int, L: float) -> None:
        self.losses[e] = [*self.losses[e][1 - self.part.window :], L]
        self.seen[e] += 1

    def _leave_for_another(self, L: float, rows: Rows) -> None:
        left, loss = self.number, {}
        for e in range(self.used):
            if e != left:
                with self._as(e):
                    at = rows.to(self.model.device)
                    loss[e] = self._loss(self.model.read(at).logits, at)
        would = {e: self._smoothed(e, each) for e, each in loss.items()}
        known = [e for e in would if would[e] <= self._limit(e)]
        if known:
            e = min(known, key=would.__getitem__)
        elif self.used < self.part.most:
            e, self.used = self.used, self.used + 1
            self.losses, self.smoothed, self.seen = [*self.losses, []], [*self.smoothed, 0.0], [*self.seen, 0]
        else:
            e = min({**loss, left: L}, key={**loss, left: L}.__getitem__)
        if e == left:
            self._note(e, L)
            return
        self.turns.append([self.batches, e])
        self.smoothed[left] = float(torch.tensor(self.losses[left], dtype=torch.float64).mean())
        self._turn_to(e)
        if e in loss:
            self.smoothed[e] = would[e]
            self._note(e, loss[e])

    # --- which expert at a test

    def _keep(self, rows: Rows) -> None:
        """The rows with the highest priorities, each with the expert that is active."""
        x = rows["x"]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise RegraftError("experts: the selector reads numbers, and column 'x' holds none")
        new = {
            "x": x.cpu(),
            "expert": torch.full((rows.count,), self.number),
            "priority": torch.rand(rows.count, generator=self.dice, dtype=torch.float64),
        }
        held = {name: torch.cat([self.sample[name], t]) if self.sample else t for name, t in new.items()}
        kept = held["priority"].topk(min(self.part.size, len(held["priority"])), sorted=False).indices.sort().values
        self.sample = {name: column[kept] for name, column in held.items()}

    def answer(self, rows: Rows) -> Tensor:
        if not self.selector:
            return self._said(rows)
        state = {name: tensor.detach().clone() for name, tensor in self.model.state().items()}

        def as_expert(rows: Rows, e: int) -> Tensor:
            self.model.load(self.weights.get(e, state))
            try:
                return self._said(rows)
            finally:
                self.model.load(state)

        return by_group(rows, selected(self.selector, rows["x"]), as_expert)

    def _said(self, rows: Rows) -> Tensor:
        logits = self.model.read(rows).logits
        return logits.sigmoid() if self.part.bounded else logits

    def leave(self) -> Mapping[str, Any]:
        if self.part.most == 1:
            return {}
        if self.used > 1:
            part, at = self.part, self.sample
            how: dict[str, Any] = {"hidden": part.hidden, "steps": part.selector_steps, "dice": self.dice}
            self.selector = learned_selector(at["x"], at["expert"], self.used, **how)
        left = {
            "active": self.number,
            "used": self.used,
            "weights": {str(e): self._weights(e) for e in range(self.used) if e != self.number},
            "first": self.first,
            "losses": self.losses,
            "smoothed": self.smoothed,
            "seen": self.seen,
            "batches": self.batches,
            "turns": self.turns,
            "sample": self.sample,
            "selector": self.selector,
        }
        return {"experts": left}

    def _weights(self, e: int) -> dict[str, Tensor]:
        """Every tensor of an expert that is not active."""
        own = on_cpu({name: held[0].of(e, held.original) for name, held in self.held.items()})
        return own | self.buffers[str(e)]
