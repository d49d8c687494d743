"""How long a run will take, by one forward and backward pass: neither weights nor dice move."""

from __future__ import annotations

import time
from typing import Any

import torch

from regraft.core.parts import View
from regraft.core.rows import Rows
from regraft.engine.training import Training

LONG_SECONDS = 1.0


def seconds_per_row(model: Any, rows: Rows, training: Training) -> float:
    """Seconds that a row of a micro-batch takes, with the gradient of the mean loss, after a pass over one row that
    warms up; that row's own where they are over `LONG_SECONDS`. In evaluation mode, without `torch.compile`."""
    was_training = model.module.training
    model.module.eval()
    try:
        for count in (1, min(training.micro_batch or training.batch, rows.count)):
            some = rows.take(slice(0, count)).to(model.device)
            began = _now(model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                View(model, some, {}).nll.mean().backward()
            seconds = _now(model.device) - began
            model.module.zero_grad(set_to_none=True)
            if seconds > LONG_SECONDS:
                break
    finally:
        model.module.train(was_training)
    return seconds / some.count


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
