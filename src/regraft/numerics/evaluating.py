"""A network that is asked and not trained, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regraft.core.parts import Model


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """The model in evaluation mode; afterwards every layer is in the mode it was in."""
    training = [layer for layer in model.module.modules() if layer.training]
    model.module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True
