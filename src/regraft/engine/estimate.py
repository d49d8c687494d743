"""How long a run will take, by one forward and backward pass: neither weights nor dice move."""

from __future__ import annotations

import time
from typing import Any

import torch

from regraft.core.parts import View
from regraft.core.rows import Rows
from regraft.engine.training import Training, make_optimizer
from regraft.numerics.evaluating import evaluating

LONG_SECONDS = 1.0
STEPPED_NUMBERS = 1 << 24


def seconds_per_row(model: Any, rows: Rows, training: Training) -> float:
    """Seconds that a row takes in training: its part of a micro-batch's forward and backward pass, and of the step.

    A pass over one row warms up; where it takes over `LONG_SECONDS`, it is taken as it is. In evaluation mode, without
    `torch.compile`; the optimizer steps a copy of some tensors.
    """
    with evaluating(model):
        for count in (1, min(training.micro_batch or training.batch, training.batch, rows.count)):
            some = rows.take(slice(0, count)).to(model.device)
            began = _now(model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                View(model, some, {}).nll.mean().backward()
            seconds = _now(model.device) - began
            model.module.zero_grad(set_to_none=True)
            if seconds > LONG_SECONDS:
                break
    return seconds / some.count + _step_seconds(model, training) / training.batch


def _step_seconds(model: Any, training: Training) -> float:
    """Seconds of an optimizer step over all tensors, by those that come first."""
    slots = [slot for slot in model.slots() if slot.tensor.is_floating_point()]
    some: dict[str, torch.Tensor] = {}
    numbers = 0
    for slot in slots:
        if some and numbers + slot.tensor.numel() > STEPPED_NUMBERS:
            break
        some[slot.name] = slot.tensor.detach().clone().requires_grad_()
        some[slot.name].grad = torch.zeros_like(slot.tensor)
        numbers += slot.tensor.numel()
    optimizer = make_optimizer(training, some, dict.fromkeys(some, 1.0))
    for _ in range(2):
        began = _now(model.device)
        optimizer.step()
        seconds = _now(model.device) - began
    return float(seconds * sum(slot.tensor.numel() for slot in slots) / numbers)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
