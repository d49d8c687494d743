"""The kinds of part that every method is written in, and what they meet.

Called once:            Transform (rows -> rows), Metric (model -> measurement), Edit (weights -> weights).
Made into an update:    Sampler (what it sees), Loss (what its outputs should be), Penalty (where weights should stay),
                        Trainable (what may move), GradientTransform (how a gradient becomes a step),
                        Schedule (any knob in time), Reference (another model, which may move, that losses read).

A part is a frozen dataclass of knobs, or a function whose keyword-only arguments are its knobs (`regraft.core.define`):
that is its config, its repr and its record. What it learns while running lives in the object that `begin` returns,
never in the part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows

Weights: TypeAlias = Mapping[str, Tensor]
Grads: TypeAlias = dict[str, Tensor]


class Progress(NamedTuple):
    """Where an update stands: optimizer steps done, steps planned, tokens (or rows) read."""

    step: int
    total: int
    tokens: int = 0

    @property
    def share(self) -> float:
        """The part of the steps that is done, in [0, 1]."""
        return self.step / self.total if self.total else 1.0


@dataclass(frozen=True)
class Slot:
    """One tensor of a model under its canonical name, which adapters and wrappers do not change.

    `kind`: `base`: it was in the network when the model was made; `adapter`: a part put it in.
    """

    name: str
    tensor: Tensor
    kind: Literal["base", "adapter"]
    role: str
    depth: int | None


@dataclass(frozen=True)
class Out:
    """One forward pass.

    `logits` [rows, classes] or [rows, places, classes]; `targets` and `counts` without the last axis. `counts` says how
    much each target counts (0: not at all); None: each counts one. `features`: what the last layer reads, where the
    family has it.
    """

    logits: Tensor
    targets: Tensor
    counts: Tensor | None = None
    features: Tensor | None = None


class Model(Protocol):
    """What the house asks of any network: one adapter per family, never one per method."""

    module: nn.Module
    vmaps: bool
    """Whether torch.func.vmap may go over the rows."""
    task_classes: Tensor | None
    """Which classes each task has, bool [tasks, classes], for rows whose column `task` says of which they are."""
    frozen: frozenset[str]
    """Tensors that no training moves, by name: those that asked for no gradient when the model was made."""

    @property
    def device(self) -> torch.device: ...
    def read(self, rows: Rows) -> Out: ...
    def sizes(self, rows: Rows) -> Tensor | None:
        """How much the targets of each row count, [rows], without a forward pass; None: each row counts one."""
        ...

    def cost(self, rows: Rows) -> int:
        """How many tokens a forward pass over the rows reads; rows, where a row has no tokens."""
        ...

    def slots(self) -> list[Slot]: ...
    def weights(self) -> Weights:
        """Effective weights by canonical name, differentiable."""
        ...

    def state(self) -> Weights:
        """Every tensor that a saved model needs, by canonical name; tied tensors once."""
        ...

    def load(self, weights: Weights) -> None: ...
    def copy(self) -> Model:
        """A frozen copy in evaluation mode."""
        ...


class Headed(Model, Protocol):
    """A model that answers by a linear layer, from the features that this layer reads: `Out.features`."""

    @property
    def head_name(self) -> str: ...
    @property
    def head(self) -> nn.Linear:
        """The last layer, weight [classes, width]."""
        ...


def of_own_task(logits: Tensor, model: Model, rows: Rows) -> Tensor:
    """Logits [rows, classes], minus infinity for classes that a row cannot have, if it says of which task it is."""
    if model.task_classes is None or "task" not in rows:
        return logits
    possible = model.task_classes[rows["task"].to(logits.device)]
    possible = F.pad(possible, (0, logits.shape[1] - possible.shape[1]))  # outputs that no task has
    return logits.masked_fill(~possible, -torch.inf)


class View:
    """One model reading one batch. Every output is computed once, however many losses ask for it."""

    def __init__(self, model: Model, rows: Rows, others: Mapping[str, Model]) -> None:
        self.model, self.rows, self._others = model, rows, others
        self._by: dict[str | Model, View] = {}

    @cached_property
    def out(self) -> Out:
        return self.model.read(self.rows)

    @property
    def logits(self) -> Tensor:
        return self.out.logits

    @property
    def targets(self) -> Tensor:
        return self.out.targets

    @property
    def features(self) -> Tensor:
        """What the last layer reads, [rows, width] or [rows, places, width]."""
        if self.out.features is None:
            raise RegraftError("the model gives no features: it has no head, a linear layer that reads them")
        return self.out.features

    @cached_property
    def log_probs(self) -> Tensor:
        """Log-probabilities of all classes, shaped as the logits."""
        return self.out.logits.log_softmax(-1)

    @cached_property
    def target_nll(self) -> Tensor:
        """Negative log-likelihood of every target in nats, shaped as the targets.

        A row that says of which task it is has a class of that task: the likelihood is among those alone.
        """
        logits, targets = self.out.logits, self.out.targets
        if logits.dim() > 2:
            flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
            return flat.view_as(targets)
        return F.cross_entropy(of_own_task(logits, self.model, self.rows), targets, reduction="none")

    @cached_property
    def nll(self) -> Tensor:
        """Mean negative log-likelihood of each row's counted targets in nats, [rows]; 0 for a row that has none."""
        each, counts = self.target_nll, self.out.counts
        if counts is None:
            return each if each.dim() == 1 else each.flatten(1).mean(1)
        counts = counts.to(each.dtype).flatten(1)
        return (each.flatten(1) * counts).sum(1) / counts.sum(1).clamp(min=torch.finfo(each.dtype).tiny)

    @cached_property
    def size(self) -> Tensor | None:
        """How much each row's targets count, [rows]; None: one each. No forward pass."""
        return self.model.sizes(self.rows)

    def by(self, other: str | Model) -> View:
        """The same rows as another model sees them, without gradient: a role (`before`, `teacher`), or the model."""
        if other not in self._by:
            if isinstance(other, str) and other not in self._others:
                raise RegraftError(f"no model in the role {other!r}; there are {sorted(self._others)}")
            model = self._others[other] if isinstance(other, str) else other
            self._by[other] = _Still(model, self.rows, self._others)
        return self._by[other]

    def part(self, span: slice) -> View:
        """The rows of one feed, cut out of what was computed for the whole batch."""
        return _Part(self, span)


class _Still(View):
    """A view without gradient."""

    @cached_property
    def out(self) -> Out:
        with torch.no_grad():
            return self.model.read(self.rows)


class _Part(View):
    def __init__(self, whole: View, span: slice) -> None:
        super().__init__(whole.model, whole.rows.take(span), whole._others)
        self.whole, self.span = whole, span

    @cached_property
    def out(self) -> Out:
        o = self.whole.out
        return Out(*(None if t is None else t[self.span] for t in (o.logits, o.targets, o.counts, o.features)))  # type: ignore[arg-type]

    @cached_property
    def target_nll(self) -> Tensor:
        return self.whole.target_nll[self.span]

    def by(self, other: str | Model) -> View:
        return self._by.setdefault(other, _Part(self.whole.by(other), self.span))


@dataclass(frozen=True)
class Outcome:
    """What happened to one feed's rows in one whole optimizer step: the only way a sampler or controller hears back.

    `losses`: detached value per row [rows] of every loss that read the feed, by the loss's name in records; `outputs`:
    what the model said of the rows before the step, detached. Both hold what an observer of the plan `wants`. Nothing
    is computed for an outcome, and none is made unless a part of the plan observes.
    """

    feed: str
    rows: Rows
    losses: Mapping[str, Tensor]
    progress: Progress
    outputs: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Context:
    """All a part may see.

    `rng` is the part's own generator, seeded by the run and the part: adding a part moves nobody else's dice. `memory`
    is what parts left in earlier updates, by name. `begin(part)` begins a part that is a knob of this one (a schedule),
    so that it is saved and hears outcomes like any other. `gradient(rows, loss)`: the gradient of the pooled mean of
    `loss` on `rows` at the weights as they stand; the loss is begun once. `again()`: this step's whole gradient once
    more, at the weights as they stand.
    """

    models: Mapping[str, Model]
    data: Mapping[str, Rows]
    memory: Mapping[str, Any]
    rng: torch.Generator
    progress: Callable[[], Progress]
    begin: Callable[[Any], Any] = field(repr=False)
    gradient: Callable[[Rows, Loss], Grads] = field(repr=False)
    again: Callable[[], Grads] = field(repr=False)

    def rows(self, name: str) -> Rows:
        """The named rows, or an error that lists the names there are."""
        if name not in self.data:
            raise RegraftError(f"no rows named {name!r}; there are {sorted(self.data)}")
        return self.data[name]

    def at_work(self, transform: Transform) -> Transform:
        """What is called in a transform's place: itself, or what it begins."""
        found: Transform = self.begin(transform) if isinstance(transform, Begun) else transform
        return found


class Stateful:
    """What a running part remembers: the attributes named in `state`, which are in every checkpoint.

    An attribute may be a tensor, a torch.Generator, another Stateful, a number, a string, None, or a list, tuple or
    dict of such.
    """

    state: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        return {name: _frozen(getattr(self, name)) for name in self.state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for name in self.state:
            setattr(self, name, _thawed(getattr(self, name), saved[name]))


def _frozen(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, Stateful):
        return value.state_dict()
    if isinstance(value, list | tuple):
        return type(value)(_frozen(v) for v in value)
    return {k: _frozen(v) for k, v in value.items()} if isinstance(value, dict) else value


def _thawed(now: Any, saved: Any) -> Any:
    """What `saved` was taken of: objects that live on take their state back, values are replaced."""
    if isinstance(now, torch.Generator):
        now.set_state(saved)
        return now
    if isinstance(now, Stateful):
        now.load_state_dict(saved)
        return now
    if isinstance(now, list | tuple) and any(isinstance(v, Stateful | torch.Generator) for v in now):
        return type(now)(_thawed(v, s) for v, s in zip(now, saved, strict=True))
    if isinstance(now, dict) and any(isinstance(v, Stateful | torch.Generator) for v in now.values()):
        return {k: _thawed(v, saved[k]) for k, v in now.items()}
    return saved


# --- called once
# -------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Transform(Protocol):
    """Rows in, rows out: make, score, label, choose.

    One that learns while an update runs is `Begun`: the object that its `begin` gives is called in its place, and may
    be stateful and observe, as any running part.
    """

    def __call__(self, rows: Rows, ctx: Context) -> Rows: ...


@runtime_checkable
class Begun(Protocol):
    """A transform that has to begin before it is called."""

    def begin(self, ctx: Context) -> Transform: ...


@dataclass(frozen=True)
class Measurement:
    """What a metric saw: numbers by name, and tables that the next part or the report may use (JSON values)."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """Numbers for the gate, tables for the next part."""

    def __call__(self, model: Model, ctx: Context) -> Measurement: ...


class EditRun(Protocol):
    def edit(self, weights: Weights) -> Weights:
        """The tensors that change, by name."""
        ...


@runtime_checkable
class Edit(Protocol):
    """Weights in, weights out, without training: merge, prune, dampen, grow, quantise."""

    def begin(self, ctx: Context) -> EditRun: ...


# --- made into an update
# -----------------------------------------------------------------------------------------------------


class SamplerRun(Protocol):
    def draw(self, count: int) -> Rows:
        """The next `count` rows; fewer, or none, when it has no more."""
        ...


class LossRun(Protocol):
    """An output-space objective: what the model should say on these rows.

    `weight` is known without a forward pass, so the pooled mean of the whole step, sum w l / sum w, does not depend on
    how the step is cut into micro-batches, feeds or processes.
    """

    def loss(self, view: View) -> Tensor:
        """One value per row, [rows]."""
        ...

    def weight(self, view: View) -> Tensor | None:
        """How much each row counts, [rows]; None: one each."""
        ...


@runtime_checkable
class Pools(LossRun, Protocol):
    """A running loss that needs a mean over the whole step before any row's value.

    `statistic` gives one number a row, [rows]; `pooled` is then told their mean over the step, a scalar without
    gradient, however the step is cut into micro-batches, feeds or processes.
    """

    def statistic(self, view: View) -> Tensor: ...
    def pooled(self, mean: Tensor) -> None: ...


class PenaltyRun(Protocol):
    """A weight-space objective, charged once per optimizer step."""

    def penalty(self, weights: Weights) -> Tensor: ...


class TrainableRun(Protocol):
    """What may move: a factor on each tensor's (or entry's) step. Factors of several trainables multiply; 0 is frozen.

    `install` may put modules of its own into the network, whose tensors are then slots like any other; `fold` leaves a
    plain network: what was put in is merged into the weights, or taken out and left in memory (`Leaves`).
    """

    def install(self, model: Model) -> None: ...
    def multiplier(self, slot: Slot) -> float | Tensor: ...
    def fold(self, model: Model) -> None: ...


class GradientRun(Protocol):
    """How a gradient becomes a step. Gradient transforms run in plan order, and that is all the order there is."""

    def update(self, grads: Grads) -> Grads: ...


@runtime_checkable
class Projects(Protocol):
    """A gradient transform that also says where a step may land.

    `lands` is asked once a step, before it: False, and the step is the optimizer's own, without a copy of the weights.
    `project` is then given each tensor before and after the step.
    """

    def lands(self) -> bool: ...
    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor: ...


Wanted: TypeAlias = Literal["losses", "logits", "features"]


@runtime_checkable
class Observes(Protocol):
    """A running part that hears of each step."""

    def observe(self, outcome: Outcome) -> None: ...


@runtime_checkable
class Wants(Observes, Protocol):
    """A running part that observes, and also wants to hear what the step computed for each row."""

    wants: tuple[Wanted, ...]


@runtime_checkable
class Takes(Protocol):
    """A sampler that takes rows of the update for itself when it begins, so that others can leave them out.

    `taken`: their places among the rows of its source, int64; None: it takes none.
    """

    taken: Tensor | None


@runtime_checkable
class Follows(Protocol):
    """A running sampler that is asked last in a step, and first told what the other feeds drew."""

    def follow(self, drawn: Mapping[str, Rows]) -> None: ...


@runtime_checkable
class Answers(Protocol):
    """A running trainable whose version does not answer with its plain weights: it chooses among what it left.

    It is begun with the memory of the updates so far. Where the rows say of which task they are, it is in their column
    `task`; else it must find that out.
    """

    def answer(self, rows: Rows) -> Tensor:
        """Logits [rows, classes]."""
        ...


@runtime_checkable
class Leaves(Protocol):
    """A running part that leaves something in the version for the next update: importance, a basis, a buffer."""

    def leave(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Uses(Protocol):
    """A running part that learns from rows which no feed draws: by source, those it did, bool by their `row`."""

    def rows_used(self) -> Mapping[str, Tensor]: ...


ScheduleRun: TypeAlias = Callable[[Progress], float]


class ReferenceRun(Protocol):
    """A frozen model, as it stands at this step."""

    @property
    def model(self) -> Model: ...


class Sampler(Protocol):
    def begin(self, ctx: Context) -> SamplerRun: ...


class Loss(Protocol):
    def begin(self, ctx: Context) -> LossRun: ...


class Penalty(Protocol):
    def begin(self, ctx: Context) -> PenaltyRun: ...


class Trainable(Protocol):
    def begin(self, ctx: Context) -> TrainableRun: ...


class GradientTransform(Protocol):
    def begin(self, ctx: Context) -> GradientRun: ...


@runtime_checkable
class Schedule(Protocol):
    """A knob in time.

    A schedule that ends in a branch of its own (annealing) names the last step before it in `master`.
    """

    def begin(self, ctx: Context) -> ScheduleRun: ...


class Reference(Protocol):
    """Another model that a loss reads, where a role (`before`) does not say it: one that moves."""

    def begin(self, ctx: Context) -> ReferenceRun: ...


@runtime_checkable
class Branches(Protocol):
    """A running schedule that anneals a branch off the trunk:

    the weights after `master_step` steps start the next update.
    """

    def master_step(self, total: int) -> int: ...
