"""A network that all tasks of a stream share, and tensors that every task has for itself.

The first update moves the whole network; later ones move only what their task owns: modules that were put over weights
or beside layers, and tensors of the network itself. Between updates the network is as the first one left it, bit for
bit, and what the tasks own is in memory: no update can change what an earlier task answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Model, Slot
from regraft.core.rows import Rows
from regraft.numerics.choice import by_group
from regraft.numerics.classes import task_of
from regraft.numerics.features import head_name
from regraft.numerics.places import put_over
from regraft.numerics.tensors import on_cpu


class PerTask(ABC):
    """A trainable at work whose tensors every task has for itself. A method says which, and what the modules do.

    `tasks`: what each task owns, by name. `now`: the task that is learned, as the rows named `source` say, or else the
    next one.
    """

    key: str
    """Its name in memory, and of the modules that it puts in."""

    def __init__(self, ctx: Context, source: str = "new") -> None:
        self.ctx, self.model = ctx, ctx.models["student"]
        left = ctx.memory.get(self.key, {"tasks": {}, "anchor": None})
        self.tasks: dict[int, dict[str, Tensor]] = {int(task): own for task, own in left["tasks"].items()}
        said = task_of(ctx, source, self.key)
        self.now, self.anchor = len(self.tasks) if said is None else said, left["anchor"]
        self.whole = self.anchor is None  # whether this update moves the whole network
        if self.anchor is None and source in ctx.data:
            self.anchor = self.now
        self._put: list[Callable[[], object]] = []  # each takes out what was put in
        self._inside: set[str] = set()  # the names of the tensors that were put in

    # --- what a method says

    @abstractmethod
    def modules(self, network: nn.Module, task: int) -> Mapping[str, nn.Module]:
        """The modules to put in for a task, each by the name of its layer, as it begins with them when it is new."""

    @abstractmethod
    def plain(self, network: nn.Module) -> Collection[str]:
        """The tensors of the network that every task has for itself."""

    def put(self, layer: nn.Module, module: nn.Module) -> Callable[[], object]:
        """Puts a module in, here over the weight of its layer; what takes it out again."""
        put_over(layer, "weight", module, who=self.key)
        return lambda: parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    def which(self, rows: Rows) -> Tensor:
        """Of which task each row is, int64 [rows], where the rows do not say."""
        raise RegraftError(f"{self.key}: rows must say in column 'task' of which task they are")

    # --- learning

    def install(self, model: Model) -> None:
        self.shared = {} if self.whole else self._values(model.state())  # running statistics move in training, too
        if self.now != self.anchor:
            self._put_in(self.now)
        if self.now in self.tasks:
            model.load(self.tasks[self.now])

    def multiplier(self, slot: Slot) -> float | Tensor:
        return 1.0 if self.whole or slot.name in self._own() else 0.0

    def leave(self) -> Mapping[str, Any]:
        tasks = {**self.tasks, self.now: self._values(self._own())}
        return {self.key: {"tasks": {str(task): own for task, own in tasks.items()}, "anchor": self.anchor}}

    def fold(self, model: Model) -> None:
        self._take_out()
        model.load(self.shared)

    # --- answering

    def answer(self, rows: Rows) -> Tensor:
        if not self.tasks:
            return self.model.read(rows).logits
        task = rows["task"] if "task" in rows else self.which(rows)
        return by_group(rows, task, self.logits)

    def logits(self, rows: Rows, task: int) -> Tensor:
        """What the network answers as that task."""
        with self._as(task):
            return self.model.read(rows).logits

    @contextmanager
    def _as(self, task: int) -> Iterator[None]:
        if task not in self.tasks:  # not learned yet: the network as it is
            yield
            return
        shared = self._values(self.plain(self.model.module))
        if task != self.anchor:
            self._put_in(task)
        try:
            self.model.load(self.tasks[task])
            yield
        finally:
            self._take_out()
            self.model.load(shared)

    # --- tensors

    def _put_in(self, task: int) -> None:
        network = self.model.module
        like = next(network.parameters())
        bare = self.model.state().keys()
        for name, module in self.modules(network, task).items():
            self._put.append(self.put(network.get_submodule(name), module.to(like)))
        self._inside = self.model.state().keys() - bare

    def _take_out(self) -> None:
        while self._put:
            self._put.pop()()
        self._inside = set()

    def _own(self) -> set[str]:
        return self._inside | set(self.plain(self.model.module))

    def _values(self, names: Collection[str]) -> dict[str, Tensor]:
        state = self.model.state()
        return on_cpu({name: state[name] for name in sorted(names)})


def norms_and_head(model: Model, part: str) -> set[str]:
    """Every tensor of normalisation layers, running statistics too, and of the head; `part` is who asks."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    layers = {name for name, layer in model.module.named_modules() if isinstance(layer, norms)}
    layers.add(head_name(model, part))
    return {name for name in model.state() if name.rpartition(".")[0] in layers}
