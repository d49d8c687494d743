"""The loop: minimise a plan over a model. It names no method, and does nothing that the plan did not ask for.

    w <- argmin  sum_k a_k(t) sum_r v_r m_kr l_k(r; w) / sum_r v_r m_kr   +   sum_j b_j(t) P_j(w)

with l_k a loss and m_k its weight per row, v_r the rows' own `weight`, P_j a penalty, each pooled over the whole step:
feeds, micro-batches and processes cannot change the objective. Each gradient passes through the plan's gradient
transforms, each tensor moves by its trainables' factor, and every knob may be a schedule.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from regraft.core.errors import Clash, Diverged, Interrupted, RegraftError
from regraft.core.parts import (
    Branches,
    Context,
    Grads,
    Leaves,
    Loss,
    LossRun,
    Model,
    Observes,
    Outcome,
    Pools,
    Progress,
    Projects,
    ScheduleRun,
    Stateful,
    TrainableRun,
    Uses,
    View,
    Wants,
    Weights,
)
from regraft.core.plan import Knob, Plan
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.bits import own_dice, random_state, set_random_state
from regraft.engine.evaluate import mean_nll
from regraft.engine.feeds import Drawn, Feeds
from regraft.engine.interrupt import Stop
from regraft.engine.means import Means
from regraft.engine.processes import Bill, Layout, Processes, clipped
from regraft.engine.training import Training, make_optimizer
from regraft.models.base import not_finite
from regraft.numerics.knobs import begun, worth


class Meter(Protocol):
    """Counts what a run spends."""

    def add(self, *, rows: int, tokens: int, updates: int) -> None: ...


@dataclass
class Fitted:
    """What a run leaves.

    Attributes:
        memory: what the plan's parts leave for the next update.
        curve: one record every `log_every` steps: step, tokens, lr, mean loss per part, `held/<name>` per monitor, mean
            `reward` where rows have one.
        seen: per feed, which rows of its source were read (bool, by the rows' `row` column); under the name of its
            source, which rows a part used that no feed drew.
        trunk: weights and optimizer state at the point where the schedule branched off to anneal, or None.
        tokens: read in all, rows where rows have no tokens.
    """

    memory: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    seen: dict[str, Tensor] = field(default_factory=dict)
    trunk: dict[str, Any] | None = None
    tokens: int = 0


def fit(
    model: Any,
    plan: Plan,
    data: Mapping[str, Rows],
    training: Training,
    *,
    others: Mapping[str, Model] | None = None,
    memory: Mapping[str, Any] | None = None,
    optimizer_state: Mapping[str, Any] | None = None,
    monitors: Mapping[str, Rows] | None = None,
    monitor_every: int = 50,
    folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    processes: Processes | None = None,
    meter: Meter | None = None,
    on_record: Callable[[dict[str, float]], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Fitted:
    """Minimises `plan` over `model` in place.

    Args:
        data: the named rows that samplers draw from.
        others: models that losses may ask for by role; `before` is there by itself.
        memory: what earlier updates left.
        optimizer_state: the state to begin with, as an earlier run's trunk holds it: by tensor and by name.
        monitors: rows whose mean loss is measured before the first step, every `monitor_every` steps and at the end.
        folder: where checkpoints are kept; a run that finds one of its own there goes on from it.
        checkpoint_seconds: seconds between two checkpoints.
        on_record: called with each record of the curve.

    Raises:
        Diverged: a loss or a tensor is not finite, or a loss exploded; the newest checkpoint is from before.
        Interrupted: Ctrl-C; a checkpoint was written first.
    """
    shared = processes or Processes()
    with own_dice(training.seed), Stop(active=folder is not None) as stop, ExitStack() as leave:
        run = _Run(model, plan, data, training, others or {}, memory or {}, shared)
        leave.callback(run.release)
        if optimizer_state:
            run.load_optimizer(optimizer_state)
        saved, damage = (None, []) if folder is None else checkpoint.newest(folder)
        for error in damage:
            (on_notice or print)(f"{error}; the checkpoint before it serves")
        if saved is not None:
            run.load_state_dict(saved)
        watch = _Watch(run, monitors or {}, monitor_every, on_record)
        if run.step == 0:
            watch.before()
        kept = time.monotonic()
        while run.step < training.steps:
            run.advance(meter)
            ended = run.step == training.steps
            if ended or run.step % training.log_every == 0 or watch.due():
                watch.record(ended)
            if folder is None or ended:
                continue
            asked, due = shared.agree(stop.asked, time.monotonic() - kept >= checkpoint_seconds)
            if asked or due:
                watch.check()
                state = run.state_dict()
                if shared.rank == 0:
                    watch.check_weights(state["model"])
                    checkpoint.save(folder, run.step, state)
                watch.stands = run.step
                kept = time.monotonic()
            if asked:
                shared.agree()
                raise Interrupted(f"stopped at step {run.step} of {training.steps}", do="Go on with --resume")
        return run.finish()


def rehearse(
    model: Any, plan: Plan, data: Mapping[str, Rows], training: Training, *, memory: Mapping[str, Any] | None = None
) -> float:
    """Begins every part and makes no step; the largest factor that the plan's schedule puts on the learning rate.

    Raises RegraftError for what a part of the plan cannot do with this data, memory and length.
    """
    with own_dice(training.seed):
        run = _Run(model, plan, data, training, {}, memory or {}, Processes())
        factor = 1.0
        if run.lr is not None:
            factor = 0.0
            for step in sorted({round(i * (training.steps - 1) / 1000) for i in range(1001)}):
                run.step = step
                factor = max(factor, run._value(run.lr))
        run.release()
    return factor


def idle(
    model: Any, plan: Plan, data: Mapping[str, Rows], training: Training, *, memory: Mapping[str, Any] | None = None
) -> list[str]:
    """The losses and penalties that pull nowhere in a training's first step, for what they hold is where it begins.

    Tried on a copy of the model, each by itself; one that has nothing to hold yet is not among them.
    """
    with own_dice(training.seed):
        run = _Run(model.copy(), plan, data, training, {}, memory or {}, Processes())
        try:
            pulls = run.pulls()
        finally:
            run.release()
    least = torch.finfo(next(iter(run.moving.values())).dtype).eps ** 0.5 * max(pulls.values(), default=0.0)
    return [name for name, pull in pulls.items() if pull <= least]


class _Roles(Mapping[str, Any]):
    """Models by role. `before` is copied the first time somebody asks, which must be before the first step."""

    def __init__(self, model: Any, others: Mapping[str, Model]) -> None:
        self._models: dict[str, Any] = {"student": model, **others}
        self.moved = False

    def __getitem__(self, role: str) -> Any:
        if role == "before" and role not in self._models:
            if self.moved:
                raise RegraftError(
                    "a part asks for the model `before` only after the first step", do="Ask for it in `begin`"
                )
            self._models[role] = self._models["student"].copy()
        return self._models[role]

    def __contains__(self, role: object) -> bool:
        return role == "before" or role in self._models

    def __iter__(self) -> Iterator[str]:
        return iter({**self._models, "before": None})

    def __len__(self) -> int:
        return len(self._models | {"before": None})


@dataclass
class _Term:
    """A loss at work: its part, its running object, the feeds it reads, its weight in time, its means."""

    run: LossRun
    on: tuple[str, ...]
    weight: ScheduleRun | float
    name: str
    means: Means = field(default_factory=Means)

    def __post_init__(self) -> None:
        self.pools = self.run if isinstance(self.run, Pools) else None


Pass: TypeAlias = tuple[View, Layout, list[tuple[int, View, Layout, Tensor | None]]]
"""A micro-batch and its feeds' places; of each loss what it reads of it, the feeds' places there, and rows' weights."""

Heard: TypeAlias = dict[tuple[str, str], list[Tensor]]


class _Run:
    """The state of one run and one step of it."""

    def __init__(
        self,
        model: Any,
        plan: Plan,
        data: Mapping[str, Rows],
        training: Training,
        others: Mapping[str, Model],
        memory: Mapping[str, Any],
        processes: Processes,
    ) -> None:
        if not plan.feeds:
            raise RegraftError("the plan has no feed: nothing to learn from")
        if not plan.losses:
            raise RegraftError("the plan has no loss: nothing to minimise")
        names = {feed.name for feed in plan.feeds}
        for w in plan.losses:
            if unknown := set(w.on) - names:
                raise RegraftError(f"{w.part} reads feeds {sorted(unknown)}; the plan has {sorted(names)}")
        self.model, self.plan, self.data, self.training = model, plan, data, training
        self.processes = Processes()  # parts begin on the whole model, each process by itself
        self.roles, self.memory = _Roles(model, others), memory
        self.step = self.tokens = 0
        self.curve: list[dict[str, float]] = []
        self.seen: dict[str, Tensor] = {}
        self.unmarked: dict[str, list[Tensor]] = {}
        self.trunk: dict[str, Any] | None = None
        self.drawn: Drawn = []
        self.rewards = [0.0, 0.0]
        """The sum of the rewards of the rows since the last record, where rows have such, and how many."""
        self.parts: dict[Any, tuple[str, Any]] = {}
        self.observers: list[Observes] = []
        self.losses_wanted = False
        self.outputs_wanted: list[str] = []
        self.precision: AbstractContextManager[Any] = nullcontext()
        if training.precision == "bfloat16":
            self.precision = torch.autocast(model.device.type, torch.bfloat16)
        self.names: Counter[str] = Counter()

        self.trainables: list[TrainableRun] = []
        self.moving: dict[str, Tensor] = {}
        self.in_training = [layer for layer in model.module.modules() if layer.training]
        with ExitStack() as failed:
            failed.callback(self.release)
            self._set_up(processes)
            failed.pop_all()

    # --- beginning

    def _set_up(self, processes: Processes) -> None:
        model, plan, training = self.model, self.plan, self.training
        for t in [self.begin(part) for part in plan.trainables]:
            t.install(model)
            self.trainables.append(t)
        self._choose_moving()
        self.feeds = Feeds(plan.feeds, self.begin)
        present = [w for w in plan.losses if w.weight != 0]
        self.terms = [_Term(self.begin(w.part), w.on, self._knob(w.weight), self._label(w.part)) for w in present]
        self.penalties = [(self.begin(w.part), self._knob(w.weight)) for w in plan.penalties if w.weight != 0]
        self.gradients = [self.begin(g) for g in plan.gradients]
        self.projects = [g for g in self.gradients if isinstance(g, Projects)]
        self.lr: ScheduleRun | None = None if plan.lr is None else self.begin(plan.lr)
        self.master = self.lr.master_step(training.steps) if isinstance(self.lr, Branches) else -1
        self.observers = [run for _, run in self.parts.values() if isinstance(run, Observes)]
        wanted = {name for run in self.observers if isinstance(run, Wants) for name in run.wants}
        self.losses_wanted, self.outputs_wanted = "losses" in wanted, sorted(wanted - {"losses"})
        if processes.size > 1:
            self._spread(processes)
        self.optimizer = make_optimizer(training, self.moving, self.factors)
        self.make_step = inspect.unwrap(type(self.optimizer).step)  # without what torch wraps it in to be profiled
        if training.compile:
            model.runner = torch.compile(model.runner)
        model.module.train()

    def begin(self, part: Any) -> Any:
        """The part at work. Equal parts are begun once: a method that fills two places of a plan is one object."""
        if part not in self.parts:
            kind = getattr(part, "name", type(part).__name__)
            name = f"{kind}/{self.names[kind]}"
            self.names[kind] += 1
            self.parts[part] = (name, part.begin(self.context(name)))
        return self.parts[part][1]

    def context(self, name: str) -> Context:
        seed = int.from_bytes(hashlib.sha256(f"{self.training.seed}/{name}".encode()).digest()[:7], "big")
        dice = torch.Generator().manual_seed(seed)
        asked = (self.begin, self.gradient_of, self.again)
        return Context(self.roles, self.data, self.memory, dice, self.progress, *asked)

    def progress(self) -> Progress:
        return Progress(self.step, self.training.steps, self.tokens)

    def _label(self, part: Any) -> str:
        """The part's name in records; a second part of the name has its number."""
        return self.parts[part][0].removesuffix("/0")

    def _knob(self, knob: Knob) -> ScheduleRun | float:
        return begun(knob, self.begin)

    def _value(self, knob: ScheduleRun | float) -> float:
        return knob if isinstance(knob, float) else worth(knob, self.progress())

    def _choose_moving(self) -> None:
        """Which tensors may move: a scalar factor scales the learning rate, a tensor scales the step entry by entry."""
        self.factors: dict[str, float] = {}
        self.entries: dict[str, Tensor] = {}
        for slot in self.model.slots():
            factor: float | Tensor = float(slot.name not in self.model.frozen)
            for t in self.trainables:
                factor = factor * t.multiplier(slot)
            moves = bool(factor.any()) if isinstance(factor, Tensor) else factor != 0
            slot.tensor.requires_grad_(moves and slot.tensor.is_floating_point())
            if not slot.tensor.requires_grad:
                continue
            self.moving[slot.name], self.factors[slot.name] = slot.tensor, 1.0
            if isinstance(factor, Tensor):
                self.entries[slot.name] = factor.to(slot.tensor)
            else:
                self.factors[slot.name] = factor
        if not self.moving:
            raise RegraftError("the plan's trainables leave no tensor that may move")

    def _spread(self, processes: Processes) -> None:
        """From here on the model is in several processes, which need not all come to ask for `before` in one step."""
        self.processes, self.roles.moved = processes, True
        processes.spread(self.model, self.training)
        self.moving = {s.name: s.tensor for s in self.model.slots() if s.name in self.moving}

    # --- one step

    def advance(self, meter: Meter | None) -> None:
        """One optimizer step."""
        if self.step == self.master:
            self.trunk = self._branch()
        self.drawn = self.feeds.draw(self.training.batch, self.progress())
        if not self.drawn:
            sources = {f.name: str(f.sampler) for f in self.plan.feeds}
            raise RegraftError(f"no rows are left at step {self.step} of {self.training.steps}: {sources}")
        if self.lr is not None:
            factor = self._value(self.lr)
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.lr * group["factor"] * factor
        outcomes = self._backward()
        if self.gradients:
            grads = self._grads()
            for g in self.gradients:
                grads = g.update(grads)
            for n, p in self.moving.items():
                p.grad = self.processes.piece(grads[n], p) if n in grads else None
        if self.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.moving.values(), self.training.clip)
        self.roles.moved = True
        landing = [g for g in self.projects if g.lands()]
        if landing or self.entries:
            self._land(landing)
        else:
            self._step()
        tokens = 0
        for name, rows in self.drawn:
            tokens += self.model.cost(rows)
            if "reward" in rows:
                self.rewards = [self.rewards[0] + float(rows["reward"].sum()), self.rewards[1] + rows.count]
            if "row" in rows:
                self.unmarked.setdefault(name, []).append(rows["row"])
        self.tokens += tokens
        if meter is not None:
            meter.add(rows=sum(rows.count for _, rows in self.drawn), tokens=tokens, updates=1)
        if self.step % 100 == 0:
            self.mark()
        for outcome in outcomes:
            for observer in self.observers:
                observer.observe(outcome)
        self.step += 1

    def _backward(self, listen: bool = True) -> list[Outcome]:
        """Fills the gradients with those of the whole step: every loss on the feeds it reads, every penalty once."""
        terms = [(t, s) for t in self.terms if (s := self._value(t.weight))]
        heard = self._fill(self.drawn, terms, listen)
        penalties = [(run, strength) for run, knob in self.penalties if (strength := self._value(knob))]
        weights = self.processes.weights(self.model) if penalties else {}
        for left, (run, strength) in zip(reversed(range(len(penalties))), penalties, strict=True):
            if (value := run.penalty(weights)).requires_grad:
                # Weights under a parametrisation have a graph of their own, which all penalties share.
                (strength * value).backward(retain_graph=left > 0)
        return self._outcomes(heard, [t for t, _ in terms]) if self.observers and listen else []

    def pulls(self) -> dict[str, float]:
        """The norm of the next step's gradient of each loss and penalty that has one, by name."""
        self.drawn = self.feeds.draw(self.training.batch, self.progress())
        terms = [(term, strength) for term in self.terms if (strength := self._value(term.weight))]
        found = {term.name: self._aside(partial(self._fill, self.drawn, [(term, s)], False)) for term, s in terms}
        weights, present = self.model.weights(), [w for w in self.plan.penalties if w.weight != 0]
        for w, (run, knob) in zip(present, self.penalties, strict=True):
            value = self._value(knob) * run.penalty(weights)
            if value.requires_grad:
                found[self._label(w.part)] = self._aside(partial(value.backward, retain_graph=True))
        return {name: float(get_total_norm(list(grads.values()))) for name, grads in found.items() if grads}

    def _fill(self, drawn: Drawn, losses: Sequence[tuple[_Term, float]], listen: bool) -> Heard:
        """Fills the gradients with those of the losses; each row's values by feed and loss, if anybody observes."""
        for p in self.moving.values():
            p.grad = None
        passes: deque[Pass] = deque()
        weighed: list[Tensor | float] = [0.0] * len(losses)
        for view, layout in self._views(drawn):
            reads = []
            for k, (term, _) in enumerate(losses):
                for part, spans in _reads(term, view, layout):
                    weight = _row_weight(term.run, part)
                    weighed[k] = weighed[k] + (part.rows.count if weight is None else weight.sum())
                    reads.append((k, part, spans, weight))
            passes.append((view, layout, reads))
        totals = self.processes.totals(weighed)
        if any(term.pools is not None for term, _ in losses):
            self._pool(passes, losses, totals)
        alone = self.processes.size == 1
        heard: Heard = {}
        while passes and losses:
            view, layout, reads = passes.popleft()  # a micro-batch is let go before the next one is read
            bill: Bill = []
            with self.precision if alone else self.processes.reading(self.precision, last=not passes):
                for k, part, spans, weight in reads:
                    term, strength = losses[k]
                    values = _row_loss(term.run, part)
                    if values.requires_grad:
                        bill.append((values, _counts(values, weight, totals[k], strength)))
                    if listen:
                        term.means.add(values, weight, spans)
                    for feed, a, b in spans if listen and self.losses_wanted else ():
                        heard.setdefault((feed, term.name), []).append(values.detach()[a:b])
                for name in self.outputs_wanted if listen else ():
                    if (output := getattr(view.out, name)) is None:
                        raise RegraftError(f"a part wants the model's {name}, which it does not give")
                    for feed, a, b in layout:
                        heard.setdefault((feed, f"output/{name}"), []).append(output.detach()[a:b])
                if not alone:
                    bill = self.processes.bill(bill, view)
            if bill:
                torch.autograd.backward([values for values, _ in bill], [counts for _, counts in bill])
        return heard

    def _pool(
        self, passes: Sequence[Pass], losses: Sequence[tuple[_Term, float]], totals: Sequence[Tensor | float]
    ) -> None:
        """Tells each loss that asks for it the mean of its statistic over the step."""
        once = len(passes) == 1 and self.processes.size == 1  # then what is computed here serves the loss, too
        sums: list[Tensor | float] = [0.0] * len(losses)
        with ExitStack() as around:
            around.enter_context(self.precision)
            if not once:
                around.enter_context(torch.no_grad())
                around.enter_context(self.processes.evaluating())
            for _, _, reads in passes:
                for k, part, _, weight in reads:
                    if (run := losses[k][0].pools) is not None:
                        each = run.statistic(part if once else View(self.model, part.rows, self.roles)).detach()
                        sums[k] = sums[k] + (each.sum() if weight is None else (weight * each).sum())
        for (term, _), total, of in zip(losses, self.processes.totals(sums), totals, strict=True):
            if term.pools is not None:
                term.pools.pooled(torch.as_tensor(total / of))

    def _views(self, drawn: Drawn) -> Iterator[tuple[View, Layout]]:
        """The step's forward passes, this process's part of them, cut into micro-batches."""
        device = next(iter(self.moving.values())).device
        for whole, layout in _tables(drawn):
            rows, mine = self.processes.share(whole, layout)
            size = self.training.micro_batch or rows.count
            for start in range(0, rows.count, size):
                piece, spans = (rows, mine) if size >= rows.count else _cut(rows, mine, start, start + size)
                yield View(self.model, piece if device.type == "cpu" else piece.to(device), self.roles), spans

    def _outcomes(self, heard: Heard, terms: Sequence[_Term]) -> list[Outcome]:
        found = []
        for feed, rows in self.drawn:
            reading = [t.name for t in terms if not t.on or feed in t.on] if self.losses_wanted else []
            losses = {name: self.processes.gather(heard.get((feed, name), ())) for name in reading}
            wanted = self.outputs_wanted if terms else []
            outputs = {n: self.processes.gather(heard.get((feed, f"output/{n}"), ())) for n in wanted}
            found.append(Outcome(feed, rows, losses, self.progress(), outputs))
        return found

    def _step(self) -> None:
        with torch.no_grad():
            self.make_step(self.optimizer)

    @torch.no_grad()
    def _land(self, landing: Sequence[Projects]) -> None:
        """The optimizer's step, and where it may land."""
        before = {n: self.moving[n].detach().clone() for n in (self.moving if landing else self.entries)}
        self._step()
        for name, old in before.items():
            tensor = self.moving[name]
            old, new = self.processes.full(old), self.processes.full(tensor.detach())
            for g in landing:
                new = g.project(name, old, new)
            if name in self.entries:
                new = torch.where(self.entries[name] != 0, old + self.entries[name] * (new - old), old)
            tensor.copy_(self.processes.piece(new, tensor))

    def mark(self) -> None:
        """Counts the rows that were drawn since it was last called as seen."""
        for name, drawn in self.unmarked.items():
            rows = torch.cat(drawn)
            self._seen(name, int(rows.max()) + 1)[rows] = True
        self.unmarked.clear()

    def _seen(self, name: str, size: int) -> Tensor:
        """Which rows were seen, of so many at least."""
        seen = self.seen.get(name, torch.zeros(0, dtype=torch.bool))
        if size > len(seen):
            seen = self.seen[name] = F.pad(seen, (0, size - len(seen)))
        return seen

    # --- what parts may ask for

    def gradient_of(self, rows: Rows, loss: Loss) -> Grads:
        term = _Term(self.begin(loss), (), 1.0, "gradient")
        return self._aside(lambda: self._fill([("", rows)], [(term, 1.0)], listen=False))

    def again(self) -> Grads:
        return self._aside(lambda: self._backward(listen=False))

    def _aside(self, fill: Callable[[], object]) -> Grads:
        """The gradients that `fill` leaves; those of the step stay as they are."""
        kept = {n: p.grad for n, p in self.moving.items()}
        fill()
        grads = self._grads()
        for n, p in self.moving.items():
            p.grad = kept[n]
        return grads

    def _grads(self) -> Grads:
        return {n: self.processes.full(p.grad) for n, p in self.moving.items() if p.grad is not None}

    # --- state

    def state_dict(self) -> dict[str, Any]:
        self.mark()
        return {
            "progress": [self.step, self.tokens],
            "model": self.processes.state(self.model),
            "optimizer": self.processes.gathered(self.optimizer.state_dict()),
            "parts": {name: run.state_dict() for name, run in self.parts.values() if isinstance(run, Stateful)},
            "carry": self.feeds.carry,
            "rewards": self.rewards,
            "curve": self.curve,
            "seen": self.seen,
            "trunk": self.trunk,
            "own": self.processes.collect(
                {"random": random_state(), "means": [t.means.state_dict() for t in self.terms]}
            ),
            "before": "before" in self.roles._models,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        if saved["before"]:
            self.roles["before"]
        self.roles.moved = True
        self.step, self.tokens = saved["progress"]
        self.processes.load(self.model, saved["model"])
        self.processes.load_optimizer(self.optimizer, saved["optimizer"])
        for name, run in self.parts.values():
            if isinstance(run, Stateful):
                run.load_state_dict(saved["parts"][name])
        self.feeds.carry = saved["carry"]
        self.rewards = saved["rewards"]
        self.curve, self.seen, self.trunk = saved["curve"], saved["seen"], saved["trunk"]
        self._take_own(saved["own"])

    def _take_own(self, own: Sequence[Mapping[str, Any]]) -> None:
        """What each process has for itself. Under another number of processes the first one takes on all sums, and a
        process that was not there begins with dice of its own."""
        rank, size = self.processes.rank, self.processes.size
        if rank < len(own):
            set_random_state(own[rank]["random"])
        for i, term in enumerate(self.terms):
            if size == len(own):
                term.means.load_state_dict(own[rank]["means"][i])
            elif rank == 0:
                term.means.merge(each["means"][i] for each in own)

    def _leave(self) -> dict[str, Any]:
        """What this run and those before it leave.

        What a branching schedule leaves is true of its trunk alone, and goes when a later run leaves no trunk; `trunk`
        says whose it is.
        """
        branching = self.parts[self.plan.lr][0] if self.plan.lr is not None and self.master >= 0 else None
        memory = dict(self.memory)
        for name in memory.pop("trunk", {"leaves": ()})["leaves"]:
            memory.pop(name, None)
        whose: dict[str, str] = {}
        for part, (name, run) in list(self.parts.items()):
            if isinstance(run, Leaves):
                left = run.leave()
                if both := next((key for key in left if key in whose), None):
                    raise Clash(f"{whose[both]} and {part} both leave {both!r} in memory", do="Keep one")
                whose |= dict.fromkeys(left, str(part))
                memory.update(left)
                if name == branching:
                    memory["trunk"] = {"schedule": name.removesuffix("/0"), "leaves": list(left)}
        return memory

    def _branch(self) -> dict[str, Any] | None:
        """The weights, and what the optimizer knows of each tensor, by name; in the first process."""
        names = {id(p): n for n, p in self.moving.items()}
        weights = _clone(self.processes.state(self.model))
        known = {names[id(p)]: _clone(self.processes.gathered(known)) for p, known in self.optimizer.state.items()}
        return {"weights": weights, "optimizer": known} if self.processes.rank == 0 else None

    def load_optimizer(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Gives the optimizer what it knew of each tensor; a tensor that it did not know begins anew."""
        for name, known in state.items():
            if name in self.moving:
                like = self.moving[name]
                self.optimizer.state[like] = {
                    k: self.processes.piece(v.to(like.device).clone(), like) if isinstance(v, Tensor) else v
                    for k, v in known.items()
                }

    def finish(self) -> Fitted:
        self.mark()
        for _, run in self.parts.values():
            for name, used in run.rows_used().items() if isinstance(run, Uses) else ():
                self._seen(name, len(used))[: len(used)] |= used
        if self.step == self.master:
            self.trunk = self._branch()
        self.processes.restore(self.model)
        return Fitted(self._leave(), self.curve, self.seen, self.trunk, self.tokens)

    def release(self) -> None:
        """Leaves the model as a plain one, however the run ended: nothing installed, everything free to move that was,
        and every layer in the mode that it was in."""
        if self.processes.size > 1 and self.model.runner is not self.model.module:
            return  # spread over processes that end with this one
        while self.trainables:
            self.trainables.pop(0).fold(self.model)
        for slot in self.model.slots():
            slot.tensor.requires_grad_(slot.tensor.is_floating_point() and slot.name not in self.model.frozen)
        self.model.module.eval()
        for layer in self.in_training:
            layer.training = True
        for p in self.moving.values():
            p.grad = None
        self.model.runner = self.model.module


class _Watch:
    """Keeps the curve: mean losses since the last record, the monitors, and the check that they are finite."""

    def __init__(
        self, run: _Run, monitors: Mapping[str, Rows], every: int, on_record: Callable[[dict[str, float]], None] | None
    ) -> None:
        self.run, self.monitors, self.every, self.on_record = run, monitors, every, on_record
        self.stands = run.step  # of the newest checkpoint

    def due(self) -> bool:
        return bool(self.monitors) and self.run.step % self.every == 0

    def before(self) -> None:
        if self.monitors:
            self._keep({"step": 0.0, "tokens": 0.0, **self._held()})

    def record(self, ended: bool) -> None:
        run = self.run
        means = self.check()
        if ended:
            self.check_weights(run.moving)
        for term in run.terms:
            term.means.clear()
        record = {
            "step": float(run.step),
            "tokens": float(run.tokens),
            "lr": float(run.optimizer.param_groups[0]["lr"]),
            **means,
        }
        if run.rewards[1]:
            record["reward"] = run.rewards[0] / run.rewards[1]
            run.rewards = [0.0, 0.0]
        if self.monitors and (ended or self.due()):
            record |= self._held()
        self._keep(record)

    def check(self) -> dict[str, float]:
        """Mean losses since the last record; Diverged when one is not finite or exploded."""
        run, found = self.run, dict[str, float]()
        for term in run.terms:
            means = term.means.means(run.processes, [f.name for f in run.plan.feeds])
            found |= {f"{term.name}@{feed}" if feed else term.name: mean for feed, mean in means.items()}
            first = next((r[term.name] for r in run.curve if term.name in r), None)
            limit = float("inf") if first is None else run.training.explode * (abs(first) + 1)
            mean = means.get("", 0.0)
            if abs(mean) <= limit and math.isfinite(mean):
                continue
            what = "exploded" if math.isfinite(mean) else "is not finite"
            raise self._diverged(f"the loss {term.name} {what} ({mean:g})")
        return found

    def check_weights(self, weights: Weights) -> None:
        """Diverged when a tensor is not finite: the losses tell of it only a step later."""
        if broken := not_finite(weights):
            raise self._diverged(f"the tensor {broken} stopped being finite")

    def _diverged(self, what: str) -> Diverged:
        since = int(self.run.curve[-1]["step"]) if self.run.curve else 0
        return Diverged(
            f"{what} between steps {since} and {self.run.step}",
            do=f"The run stands at its last good checkpoint, step {self.stands}; lower the learning rate and --restart"
            ", or look at the rows read there",
        )

    def _held(self) -> dict[str, float]:
        run = self.run
        found = {f"held/{name}": mean_nll(run.model, rows, run.processes) for name, rows in self.monitors.items()}
        for name, loss in found.items():
            if not math.isfinite(loss):
                raise self._diverged(f"the loss {name} is not finite ({loss:g})")
        return found

    def _keep(self, record: dict[str, float]) -> None:
        self.run.curve.append(record)
        if self.on_record is not None:
            self.on_record(record)


def _tables(drawn: Drawn) -> list[tuple[Rows, Layout]]:
    """The step's rows, feeds of one schema joined so that one forward pass reads them together."""
    if len(drawn) == 1:
        [(name, rows)] = drawn
        return [(rows, [(name, 0, rows.count)])]
    if len({"row" in rows for _, rows in drawn}) > 1:  # where some rows have no number, no model reads it
        drawn = [(name, rows.only(*(n for n in rows if n != "row"))) for name, rows in drawn]
    alike: dict[Any, list[tuple[str, Rows]]] = {}
    for name, rows in drawn:
        alike.setdefault(rows.schema, []).append((name, rows))
    tables = []
    for feeds in alike.values():
        ends = list(itertools.accumulate(rows.count for _, rows in feeds))
        layout = [(name, end - rows.count, end) for (name, rows), end in zip(feeds, ends, strict=True)]
        tables.append((Rows.join(rows for _, rows in feeds), layout))
    return tables


def _cut(rows: Rows, layout: Layout, start: int, stop: int) -> tuple[Rows, Layout]:
    """The rows in [start, stop) and where each feed's lie among them."""
    return rows.take(slice(start, stop)), clipped(layout, start, stop)


def _reads(term: _Term, view: View, spans: Layout) -> list[tuple[View, Layout]]:
    """The parts of a view that a loss reads, each with its feeds' places; the whole view if it reads all of it."""
    if not term.on or all(name in term.on for name, _, _ in spans):
        return [(view, spans)]
    return [(view.part(slice(a, b)), [(name, 0, b - a)]) for name, a, b in spans if name in term.on]


def _row_loss(run: LossRun, view: View) -> Tensor:
    values = run.loss(view)
    return values * view.rows["scale"] if "scale" in view.rows else values


def _row_weight(run: LossRun, view: View) -> Tensor | None:
    weight = run.weight(view)
    if "weight" not in view.rows:
        return weight
    own: Tensor = view.rows["weight"]
    return own if weight is None else weight * own


def _counts(values: Tensor, weight: Tensor | None, total: Tensor | float, strength: float) -> Tensor:
    """How much each row's value counts in the objective of the step, [rows]."""
    if not isinstance(total, Tensor):
        return _filled(values.shape, strength / total, values.dtype, values.device)
    each = torch.ones_like(values) if weight is None else weight.to(values.dtype)
    return strength * each / total.clamp(min=torch.finfo(torch.float32).tiny)


@functools.lru_cache(maxsize=8)
def _filled(shape: torch.Size, each: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full(shape, each, dtype=dtype, device=device)


def _clone(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone()
    if isinstance(tree, Mapping):
        return {k: _clone(v) for k, v in tree.items()}
    return [_clone(v) for v in tree] if isinstance(tree, list) else tree
