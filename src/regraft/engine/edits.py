"""Edits at work: weights changed without training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn

import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Edit, Leaves, Model, Progress
from regraft.core.rows import Rows


def still(
    models: Mapping[str, Model],
    data: Mapping[str, Rows],
    memory: Mapping[str, Any],
    *,
    name: str,
    seed: int,
) -> Context:
    """The context of a part that is begun outside of training: it may ask for no gradient of a step."""

    def refused(*_: Any) -> NoReturn:
        raise RegraftError(f"{name} asks for the gradient of a step, and no step is made here")

    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
    dice = torch.Generator().manual_seed(drawn)
    found = Context(models, data, memory, dice, lambda: Progress(0, 0), lambda p: p.begin(found), refused, refused)
    return found


@torch.no_grad()
def apply(
    edit: Edit,
    model: Model,
    data: Mapping[str, Rows],
    memory: Mapping[str, Any],
    *,
    seed: int = 0,
    others: Mapping[str, Model] | None = None,
) -> dict[str, Any]:
    """Edits `model` in place; the memory with what the edit leaves.

    Raises RegraftError for a tensor that the model does not have, or whose shape is another.
    """
    name = getattr(edit, "name", type(edit).__name__)
    run = edit.begin(still({"student": model, **(others or {})}, data, memory, name=name, seed=seed))
    model.load({name: tensor.clone() for name, tensor in run.edit(model.weights()).items()})
    return {**memory, **(run.leave() if isinstance(run, Leaves) else {})}
