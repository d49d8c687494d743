"""The grounds on which `regraft bench continual` compares methods, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from regraft.data.scenario import Scenario, blurred, recurring, unbroken
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.recipes.comparison import Ground
from regraft.worlds import few_shots, texts, transformers
from regraft.worlds.glyphs import glyphs
from regraft.worlds.splits import BATCH, EPOCHS, HIDDEN, LR, MEMORY, Stream, convolutional, one_head, stream_of
from regraft.worlds.tables import Split, data_set

TRAINING = Training(steps=1, batch=BATCH, lr=LR, optimizer="SGD", clip=None, explode=1e9)
ONE_PASS = replace(TRAINING, batch=10)
LETTERS = "ten letters in 8 x 8 dots"
FEW = 40
"""Rows that may be kept of a stream of 260."""
WIDTHS = "-".join(map(str, (64, *HIDDEN, 10)))


def _streams(stream: Stream) -> tuple[Callable[[int], Scenario], Callable[[int], Scenario]]:
    """Digits to judge on, letters to tune on."""

    def of(rows: Callable[[int], Split]) -> Callable[[int], Scenario]:
        return lambda seed: stream_of(rows(seed), stream, seed)

    return of(lambda seed: data_set("digits", seed)), of(glyphs)


def _task_free() -> Ground:
    """Every task comes twice, a fifth of its rows amid others', and nobody says where one ends."""

    def of(stream: Callable[[int], Scenario]) -> Callable[[int], Scenario]:
        return lambda seed: unbroken(blurred(recurring(stream(seed), 2), 0.2, seed=seed))

    judged, tuning = map(of, _streams("classes"))
    says = "digits, 2 classes a task, each task twice, a fifth of its rows amid others', no boundaries; every row once"
    return Ground(f"{says}, 10 a batch ({WIDTHS})", judged, tuning, one_head, ONE_PASS, 1.0, MEMORY, LETTERS)


def _images(tasks: Scenario, seed: int) -> Classifier:
    return convolutional(tasks.classes, seed=seed)


def _ground(says: str, stream: Stream, **other: Any) -> Ground:
    judged, tuning = _streams(stream)
    usual: dict[str, Any] = {"network": one_head, "training": TRAINING, "epochs": EPOCHS, "memory": MEMORY}
    return Ground(says, judged, tuning, tuned_on=LETTERS, **{**usual, **other})


GROUNDS = {
    "classes": _ground(f"digits, 2 classes a task, one head ({WIDTHS}), {EPOCHS} epochs", "classes"),
    "told": _ground(f"the same, and it is known of which task a row is ({WIDTHS})", "told"),
    "inputs": _ground(f"all digits in 5 orders of their pixels ({WIDTHS}), {EPOCHS} epochs", "inputs"),
    "online": _ground(
        f"digits, 2 classes a task, every row once, 10 a batch ({WIDTHS})", "classes", training=ONE_PASS, epochs=1.0
    ),
    "pretrained": Ground(
        "40 curves, 10 a task, one head; a vision transformer that knows other curves, 5 epochs",
        transformers.stream,
        transformers.stream,  # the curves of another seed are others
        transformers.pretrained,
        Training(steps=1, batch=transformers.BATCH, lr=transformers.LR, clip=None, explode=1e9),
        5.0,
        MEMORY,
        "40 other curves",
    ),
    "text": Ground(
        "five domains of text in sequence, a language model of 0.2M weights, one epoch; losses in nats a token",
        texts.scenario,
        partial(texts.scenario, tuning=True),
        texts.network,
        Training(steps=1, batch=16, lr=3e-3),
        1.0,
        MEMORY,
        "other documents of these domains in the opposite order",
    ),
    "images": _ground("as told, learned by convolutions", "told", network=_images),
    "few_shot": Ground(
        f"digits, 6 classes at first, then one a task of {few_shots.SHOTS} rows, one head; convolutions, "
        f"{few_shots.EPOCHS} epochs",
        few_shots.stream,
        partial(few_shots.stream, tuning=True),
        few_shots.network,
        TRAINING,
        few_shots.EPOCHS,
        FEW,
        LETTERS,
    ),
    "unbroken": _task_free(),
}
