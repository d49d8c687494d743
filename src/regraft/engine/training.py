"""How an update is run, whatever it is made of: length, batch, optimizer, precision."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.errors import RegraftError, nearest


@dataclass(frozen=True)
class Training:
    """The settings of one run of the loop.

    Args:
        steps: optimizer steps.
        batch: rows of one optimizer step, over all feeds and processes.
        lr: the learning rate that the plan's schedule scales.
        micro_batch: rows of one forward pass; the step's gradient does not depend on it. None: the whole batch.
        optimizer: a class of torch.optim by name.
        knobs: the optimizer's other arguments.
        decay_vectors: whether weight decay acts on norms and biases too, as torch.optim does by itself.
        clip: the largest gradient norm of a step; None: no clipping.
        precision: of forward and backward passes; weights and optimizer stay in the model's own dtype.
        compile: torch.compile the network.
        log_every: steps between two records of the curve, which hold the mean losses in between.
        explode: the run stops when a loss is over `explode` times (its first record + 1).
    """

    steps: int
    batch: int
    lr: float
    micro_batch: int | None = None
    optimizer: str = "AdamW"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    decay_vectors: bool = True
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    seed: int = 0
    log_every: int = 10
    explode: float = 5.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every"):
            if getattr(self, name) < 1:
                raise RegraftError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise RegraftError(f"micro_batch is {self.micro_batch}; it must be at least 1")
        if not 0 < self.lr < float("inf"):
            raise RegraftError(f"lr is {self.lr}; it must be positive")
        optimizer_class(self.optimizer, self.knobs)


def optimizer_class(name: str, knobs: Mapping[str, Any]) -> Callable[..., torch.optim.Optimizer]:
    """The named class of torch.optim, its knobs checked against its signature."""
    known = {
        n: c
        for n, c in vars(torch.optim).items()
        if isinstance(c, type)
        and issubclass(c, torch.optim.Optimizer)
        and n not in ("Optimizer", "LBFGS", "SparseAdam")
    }
    if name in ("LBFGS", "SparseAdam"):
        raise RegraftError(f"{name} does not step on one dense gradient, so it cannot be used", do="Use AdamW or SGD")
    if name not in known:
        raise RegraftError(f"torch.optim has no optimizer {name!r}{nearest(name, known)}")
    accepts = set(inspect.signature(known[name]).parameters) - {"params", "lr"}
    if unknown := sorted(set(knobs) - accepts):
        raise RegraftError(f"{name} has no knob {', '.join(unknown)}; it has {sorted(accepts)}")
    try:
        if not all(math.isfinite(v) for each in knobs.values() for v in _numbers(each)):
            raise ValueError("a number is not finite")
        probe = torch.zeros(1, requires_grad=True)
        probe.grad = torch.zeros(1)
        known[name]([probe], **knobs).step()
    except Exception as error:  # whatever a class of torch.optim makes of a wrong knob
        raise RegraftError(f"{name} does not take {dict(knobs)}: {error or type(error).__name__}") from None
    return known[name]


def _numbers(knob: Any) -> list[float]:
    return [v for v in (knob if isinstance(knob, list | tuple) else [knob]) if isinstance(v, int | float)]


def make_optimizer(
    training: Training, moving: Mapping[str, Tensor], factors: Mapping[str, float]
) -> torch.optim.Optimizer:
    """The optimizer over the tensors that may move, each at its factor of the learning rate."""
    cls: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, training.optimizer)
    knobs, accepts = dict(training.knobs), inspect.signature(cls).parameters
    decay = knobs.get("weight_decay", accepts["weight_decay"].default if "weight_decay" in accepts else 0.0)
    alike = training.decay_vectors or not decay
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, tensor in moving.items():
        groups.setdefault((factors[name], alike or tensor.dim() > 1), []).append(tensor)
    if "fused" in accepts and not {"fused", "foreach"} & set(knobs):
        whole = all(type(t.data) is Tensor for t in moving.values())  # torch fuses Adam alone over pieces (FSDP2)
        fusable = whole or training.optimizer in ("Adam", "AdamW")
        knobs["fused"] = fusable and all(t.device.type in ("cpu", "cuda") for t in moving.values())
    params = [
        {"params": tensors, "lr": training.lr * factor, "factor": factor} | ({} if decays else {"weight_decay": 0.0})
        for (factor, decays), tensors in groups.items()
    ]
    return cls(params, **knobs)
