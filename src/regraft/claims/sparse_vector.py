"""Sparse vectors of a task and of two languages, for tags in a language that has no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from regraft.core.parts import Trainable
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.models.classifier import Classifier
from regraft.parts.edits.add_sparse import add_sparse
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.l1_start import l1_start
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.sparse_vector import sparse_vector
from regraft.parts.trainables.ticket import ticket
from regraft.worlds.languages import BATCH, HELD, LR, Language, accuracy, base, masked, tagged

LANGUAGE, TASK, LABELS, L1 = 800, 400, 2000, 0.1
K_LANGUAGE, K_TASK = 0.3, 0.1
UPDATES = 2 * LANGUAGE + TASK


def learned(
    model: Classifier,
    feeds: Mapping[str, Rows],
    memory: Mapping[str, Any],
    trained: Sequence[Trainable],
    steps: int,
    meter: Meter,
    seed: int,
) -> Mapping[str, Any]:
    """What is in memory after a training; the feeds share its batches evenly."""
    near = Weighted(l1_start(), L1)
    plan = Plan(tuple(Feed(name, shuffled(name)) for name in feeds), (Weighted(nll()),), (near,), tuple(trained))
    setting = Training(steps, BATCH, LR, knobs={"weight_decay": 0.0}, seed=seed, log_every=steps)
    return fit(model, plan, feeds, setting, memory=memory, meter=meter).memory


def random_ticket(model: Classifier, K: float, seed: int) -> dict[str, Tensor]:
    """As many entries as a ticket has, drawn at random; all of the head."""
    dice = torch.Generator().manual_seed(seed)
    drawn = {slot.name: torch.rand(slot.tensor.shape, generator=dice) for slot in model.slots()}
    body = [name for name in drawn if not name.startswith(f"{model.head_name}.")]
    order = torch.cat([drawn[name].flatten() for name in body]).sort().values
    bound = order[round(K * len(order)) - 1]
    return {name: each <= (bound if name in body else torch.inf) for name, each in drawn.items()}


def vector(
    model: Classifier,
    name: str,
    rows: Rows,
    memory: Mapping[str, Any],
    K: float,
    random: bool,
    steps: int,
    meter: Meter,
    seed: int,
) -> Mapping[str, Any]:
    """Memory with one more vector; where a ticket is found first, that takes half of the steps."""
    feeds = {"new": rows}
    if random or K == 1.0:
        memory = {**memory, "ticket": random_ticket(model, K, seed + len(memory.get("sparse_vectors", {})))}
    else:
        steps //= 2
        memory = learned(model, feeds, memory, [ticket(K)], steps, meter, seed)
    return learned(model, feeds, memory, [sparse_vector(name)], steps, meter, seed)


def composed(K_language: float = K_LANGUAGE, K_task: float = K_TASK, *, random: bool = False) -> Arm:
    """Vectors of both languages, and of the task upon that of A; then the task's and that of B."""

    def arm(meter: Meter, seed: int) -> dict[str, float]:
        with one_thread():
            model = base(seed)
            memory: Mapping[str, Any] = {}
            start = {name: tensor.clone() for name, tensor in model.state().items()}
            for language in get_args(Language):
                rows = masked(language, seed)
                memory = vector(model, language, rows, memory, K_language, random, LANGUAGE, meter, seed)
            apply(add_sparse(("A",)), model, {}, memory)
            memory = vector(model, "task", tagged("A", seed, LABELS), memory, K_task, random, TASK, meter, seed)
            return asked(model, start, memory, "A", seed) | asked(model, start, memory, "B", seed)

    return arm


def asked(
    model: Classifier, start: Mapping[str, Tensor], memory: Mapping[str, Any], language: Language, seed: int
) -> dict[str, float]:
    """How many tags of a language are right with its vector, if there is one, and that of the task."""
    model.load(start)
    of = [name for name in ("task", language) if name in memory["sparse_vectors"]]
    apply(add_sparse(tuple(of)), model, {}, memory)
    return {language: accuracy(model, tagged(language, seed, HELD))}


def alone(K: float) -> Arm:
    """A vector of the task, upon the base."""

    def arm(meter: Meter, seed: int) -> dict[str, float]:
        with one_thread():
            model = base(seed)
            start = {name: tensor.clone() for name, tensor in model.state().items()}
            rows = tagged("A", seed, LABELS)
            memory = vector(model, "task", rows, {}, K, False, UPDATES, meter, seed)
            return asked(model, start, memory, "A", seed) | asked(model, start, memory, "B", seed)

    return arm


def at_once(meter: Meter, seed: int) -> dict[str, float]:
    """Both languages and the task in one training of the whole network."""
    with one_thread():
        model = base(seed)
        feeds = {"A": masked("A", seed), "B": masked("B", seed), "new": tagged("A", seed, LABELS)}
        learned(model, feeds, {}, [], UPDATES, meter, seed)
        return {language: accuracy(model, tagged(language, seed, HELD)) for language in get_args(Language)}


claim = Claim(
    says="a sparse vector of a task, learned upon that of the language that has labels, and that of another language "
    "tag that language better by 5 points than the task's vector alone, fine-tuning on the labels alone, or vectors "
    "of as many entries drawn at random, and within 2 points of dense differences",
    setting="two languages of 8 tags and 20 words each, half of the words that are said being shared; a model of "
    "masked words of 0.03M numbers that has read much of A and little of B; 800 updates on each language's text, 400 "
    "on 2,000 tags of A, half of them for the ticket; 3/10 of the entries for a language, 1/10 for the task, Adam; K "
    "and lengths chosen on seeds 100 to 102",
    arms={
        "fine-tuning on labels": alone(1.0),
        "task vector alone": alone(K_TASK),
        "random entries": composed(random=True),
        "dense differences": composed(1.0, 1.0),
        "LT-SFT": composed(),
        "all at once": at_once,
    },
    tests=(
        Test("B", "LT-SFT", "task vector alone", by=0.05, lower_is_better=False),
        Test("B", "LT-SFT", "fine-tuning on labels", by=0.05, lower_is_better=False),
        Test("B", "LT-SFT", "random entries", by=0.05, lower_is_better=False),
        Test("B", "LT-SFT", "dense differences", by=-0.02, lower_is_better=False),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101, 102),
)
