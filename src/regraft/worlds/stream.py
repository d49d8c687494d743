"""A stream of small corpora and a language model of 0.2M weights, trained on the first: where claims are measured.

    prose       the language reference and docstrings           what the base was trained on
    code        source of the library's modules                 a strong shift
    packages    source of the library's packages                close to code
    cipher      prose with its letters permuted                 a foreign language
    facts       "the <attribute> of <name> is <value>"          what a text knows, in other words each time

All of it comes from what every Python carries or from a fixed seed, with one BPE tokenizer for all. What is costly (the
texts, their tokens, the base of each seed) is kept in the cache folder under a digest of the code that makes it, and is
the same, bit for bit, when it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import string
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor

import regraft
from regraft.core.parts import GradientTransform, Schedule
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.corpus import build_corpus
from regraft.data.pack import pack
from regraft.data.read import documents
from regraft.engine.bits import one_thread
from regraft.engine.evaluate import mean_nll
from regraft.engine.fit import Fitted, Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.replay import replay
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.recipes.texts import cache_folder
from regraft.worlds import llama, python_text
from regraft.worlds.python_text import Document

Corpus: TypeAlias = Literal["prose", "code", "packages", "cipher", "facts"]

VOCABULARY, CONTEXT, WIDTH, DEPTH = 1024, 64, 64, 3
CHARACTERS, HELD_OUT, HELD_BLOCKS, WATCHED = 1_500_000, 0.05, 256, 64
BATCH, STEPS, BASE_STEPS = 16, 300, 600
PEAK, FLOOR = 3e-3, 0.1
ADAMW = {"betas": (0.9, 0.95), "weight_decay": 0.1}


class Text(NamedTuple):
    """A corpus in blocks of `CONTEXT` tokens: to train on, and `HELD_BLOCKS` at most of documents held out."""

    train: Rows
    held: Rows


def fresh(seed: int) -> CausalLM:
    """The model with random weights."""
    return llama.llama(_tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)


def base(seed: int, *, lr: float = PEAK) -> CausalLM:
    """The model after `BASE_STEPS` updates on prose by one cosine, to its end; each call gives a copy of its own."""

    def make() -> Mapping[str, Tensor]:
        model = fresh(seed)
        update(model, None, seed, "prose", lr=lr, steps=BASE_STEPS)
        return model.state()

    model = fresh(seed)
    model.load(_kept(f"base-{seed}-{lr:g}", _code(), make))
    return model


def update(
    model: CausalLM,
    meter: Meter | None,
    seed: int,
    new: Corpus,
    *,
    past: Sequence[Corpus] = (),
    share: float = 0.0,
    schedule: Schedule | None = None,
    lr: float = PEAK,
    gradients: Sequence[GradientTransform] = (),
    **settings: Any,
) -> Fitted:
    """Trains `model` in place on `new`, with `share` of every batch from `past`; for `settings` see `train`.

    Without a `schedule` the rate is re-warmed and decays again to `FLOOR` of the peak.
    """
    plan = Plan(
        feeds=(Feed("new", shuffled()), *([Feed("past", replay(), share)] if past else [])),
        losses=(Weighted(nll()),),
        gradients=tuple(gradients),
        lr=rewarm(floor=FLOOR) if schedule is None else schedule,
    )
    rows = {"new": text(new).train, "past": Rows.join(text(name).train for name in past)}
    return train(model, meter, seed, plan, rows, lr=lr, **settings)


def train(
    model: CausalLM,
    meter: Meter | None,
    seed: int,
    plan: Plan,
    rows: Mapping[str, Rows],
    *,
    lr: float = PEAK,
    steps: int = STEPS,
    batch: int = BATCH,
    watch: Sequence[Corpus] = (),
    watch_every: int = 20,
    memory: Mapping[str, Any] | None = None,
    optimizer_state: Mapping[str, Any] | None = None,
) -> Fitted:
    """Any plan over any rows with the settings of this world.

    The curve has `held/<corpus>` for each corpus in `watch`, the loss on `WATCHED` of its held-out blocks.
    """
    training = Training(steps=steps, batch=batch, lr=lr, knobs=ADAMW, decay_vectors=False, seed=seed)
    with one_thread():
        return fit(
            model,
            plan,
            rows,
            training,
            memory=memory,
            optimizer_state=optimizer_state,
            monitors={name: text(name).held.take(slice(0, WATCHED)) for name in watch},
            monitor_every=watch_every,
            meter=meter,
        )


def losses(model: CausalLM, *names: Corpus) -> dict[str, float]:
    """Held-out loss of each corpus, in nats per token."""
    with one_thread():
        return {name: mean_nll(model, text(name).held) for name in names}


def curve(fitted: Fitted, name: Corpus) -> list[tuple[float, float]]:
    """(step, held-out loss) of a corpus that was watched; the first is from before the update."""
    held = f"held/{name}"
    return [(record["step"], record[held]) for record in fitted.curve if held in record]


def spike(fitted: Fitted, name: Corpus) -> float:
    """How far the loss of a corpus that was watched rose above where the update began, at most; 0 if it never did."""
    values = [value for _, value in curve(fitted, name)]
    return max(values) - values[0]


@cache
def text(name: Corpus) -> Text:
    """The blocks of a corpus, all in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.jsonl")
        path.write_text("".join(json.dumps(d) + "\n" for d in _documents(name)), encoding="utf-8")
        corpus = build_corpus(documents([str(path)]), _tokenizer(), cache=cache_folder() / "stream")
        train, held = (pack(part, CONTEXT, seed=0, drop_last=True).rows for part in corpus.split(HELD_OUT))
        return Text(train.take(slice(None)), held.take(slice(0, HELD_BLOCKS)))


# --- texts ----------------------------------------------------------------------------------------------------------


def _documents(name: Corpus) -> list[Document]:
    folder = _folder(_digest([Path(__file__), Path(python_text.__file__)]))
    path = folder / f"{name}.json"
    if not path.exists():
        _write(path, lambda aside: aside.write_text(json.dumps(_make(name)), encoding="utf-8"))
    found: list[Document] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _make(name: Corpus) -> list[Document]:
    match name:
        case "prose":
            return python_text.sample(python_text.reference() + python_text.docstrings(), CHARACTERS)
        case "code":
            return python_text.sample(python_text.source("modules"), CHARACTERS)
        case "packages":
            return python_text.sample(python_text.source("packages"), CHARACTERS)
        case "cipher":
            letters = list(string.ascii_lowercase)
            random.Random(0).shuffle(letters)
            key = str.maketrans(string.ascii_letters, "".join(letters) + "".join(letters).upper())
            return [{**d, "source": "cipher", "text": d["text"].translate(key)} for d in _documents("prose")]
        case "facts":
            return _facts()


def _facts(entities: int = 100, count: int = 3000, each: int = 10) -> list[Document]:
    """Documents that each state some of the same facts, in one of several wordings."""
    dice = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]

    def word() -> str:
        return "".join(dice.choices(syllables, k=3))

    names = [word().capitalize() for _ in range(entities)]
    facts = [(name, kind, word()) for name in names for kind in ("colour", "city", "friend", "craft")]
    wordings = ("The {1} of {0} is {2}.", "{0} has the {1} {2}.", "As to its {1}, {0} has {2}.")
    return [
        {
            "name": str(i),
            "source": "facts",
            "text": "\n".join(dice.choice(wordings).format(*fact) for fact in dice.sample(facts, each)),
        }
        for i in range(count)
    ]


@cache
def _tokenizer() -> Any:
    return llama.bpe((d["text"] for name in ("prose", "code", "cipher", "facts") for d in _documents(name)), VOCABULARY)


# --- what is kept ---------------------------------------------------------------------------------------------------


def _kept(name: str, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file, save_file

    path = _folder(key) / f"{name}.safetensors"
    if not path.exists():
        made = {n: t.contiguous() for n, t in make().items()}
        _write(path, lambda aside: save_file(made, aside))
    return load_file(path)


@cache
def _code() -> str:
    """The digest of all code that a base depends on, as it was when this process first asked."""
    root = Path(regraft.__path__[0])
    floors = ("core", "data", "engine", "models", "numerics", "worlds")
    parts = [Path("parts", *p) for p in (("losses", "nll.py"), ("samplers", "shuffled.py"), ("schedules", "rewarm.py"))]
    return _digest([*(p for floor in floors for p in sorted((root / floor).glob("*.py"))), *(root / p for p in parts)])


def _digest(paths: Sequence[Path]) -> str:
    from importlib.metadata import version

    versions = [platform.python_version(), *(version(p) for p in ("torch", "transformers", "tokenizers"))]
    digest = hashlib.sha256(json.dumps(versions).encode())
    for path in paths:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _folder(key: str) -> Path:
    folder = cache_folder() / "stream" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """The whole file or none of it, whoever else makes it at the same time."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        write(Path(name))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
