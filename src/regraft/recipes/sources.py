"""What an update is given: new text, the past, and the suites that both sides are measured on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.data.corpus import Corpus, canonical
from regraft.evidence.items import Item, Items
from regraft.evidence.suites import HeldOut, Suite
from regraft.recipes import texts
from regraft.recipes.answered import Answered, Answering
from regraft.recipes.texts import Text
from regraft.store import Line, TensorRef, Version

NEW, OLD = "new", "old"


@dataclass(frozen=True)
class Sources:
    """The texts and questions of one update.

    Attributes:
        learned: the text to learn, where there is one.
        past: what the line was trained on, each text with the documents that touched it; oldest first.
        kept: texts to keep that the line does not know it was trained on.
        others: texts of other branches of the line, which hold documents out too.
        items: questions that this update brings.
        carried: questions that earlier updates brought.
        message: the version's one line.
        skipped: rows passed over, by reason.
        names: the suite of each text's held-out documents, by the text's digest: the same in every later update.
    """

    learned: Text | None
    past: Sequence[tuple[Text, Corpus]]
    kept: Sequence[Text] = ()
    others: Sequence[Text] = ()
    items: Sequence[Items] = ()
    carried: Sequence[Items] = ()
    message: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)

    names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Keeps apart what is trained on and what is measured on, whatever text a document came with.

        In the order in which the line met them, a text holds out nothing that was trained on before it, and trains on
        nothing that it, a text before it or another branch holds out: what was held out once stays so. A text that
        comes again is the new one, or the past, not both.
        """
        new = [] if self.learned is None else [self.learned]
        known = {text.digest for text in [*(text for text, _ in self.past), *new]}
        kept = sorted({t.digest: t for t in self.kept if t.digest not in known}.values(), key=lambda t: t.digest)
        met = [*self.past, *((text, text.train) for text in [*kept, *new])]
        candidates = keys([text.held for text, _ in met])
        trained = np.empty(0, dtype=np.uint64)
        met_digests = {text.digest for text, _ in met}
        held = keys([text.held for text in self.others if text.digest not in met_digests])
        apart, names = [], dict[str, str]()
        taken = {items.name for items in self.carried}
        for text, seen in met:
            own = _without(text.held, trained)
            held = np.union1d(held, keys([own]))
            seen = _without(seen, held)
            trained = np.union1d(trained, np.intersect1d(keys([seen]), candidates))
            apart.append((replace(text, train=_without(text.train, held), held=own), seen))
            if text.digest not in names:
                names[text.digest] = free_name(text.name, taken | set(names.values()))
        count = len(self.past)
        learned = apart[-1][0] if new else None
        values = {
            "learned": learned,
            "past": [(text, seen) for text, seen in apart[:count] if learned is None or text.digest != learned.digest],
            "kept": [text for text, _ in apart[count : len(apart) - len(new)]],
            "names": names,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def new(self) -> Text:
        """The text to learn; RegraftError where there is none."""
        if self.learned is None:
            raise RegraftError("there is no new text", do="Name it with --data")
        return self.learned

    def texts(self) -> list[Text]:
        """Every text that the line knows, the new one last."""
        return [*self.old_texts(), *([] if self.learned is None else [self.learned])]

    def old(self) -> Corpus | None:
        """All that may be replayed."""
        known = [corpus for _, corpus in self.past if corpus.documents] + [text.train for text in self.kept]
        return texts.union(known) if known else None

    def old_texts(self) -> list[Text]:
        return [text for text, _ in self.past] + list(self.kept)

    def suites(self, context: int) -> dict[str, Suite]:
        """The held-out documents of every text that the line knows, the new one last, and the questions.

        Raises RegraftError for a suite of questions that has the name, but not the items, of one that the line knows.
        """
        found: dict[str, Suite] = {}
        for text in self.texts():
            if text.held.documents:
                name = self.names[text.digest]
                found[name] = HeldOut(name, text.held, context)
        questions = {items.name: items for items in self.carried}
        prints = {items.fingerprint for items in self.carried}
        for items in self.items:
            if items.fingerprint in prints:
                continue
            if items.name in questions:
                raise RegraftError(
                    f"the suite {items.name!r} has other items than the line's", do="Give its file another name"
                )
            prints.add(items.fingerprint)
            own = free_name(items.name, {*self.names.values(), *questions})
            questions[own] = items if own == items.name else replace(items, name=own)
        return {**found, **questions}

    def held(self) -> dict[str, Corpus]:
        """Held-out documents of both sides, for the curve."""
        old = [text.held for text in self.old_texts() if text.held.documents]
        sides = {OLD: texts.union(old)} if old else {}
        new = None if self.learned is None else self.learned.held
        return {**sides, NEW: new} if new is not None and new.documents else sides


def keys(corpora: Sequence[Corpus]) -> NDArray[np.uint64]:
    """Half of each document's id, which tells documents apart."""
    halves = [np.ascontiguousarray(corpus.ids[:, :8]).view(np.uint64)[:, 0] for corpus in corpora if corpus.documents]
    return np.concatenate(halves) if halves else np.empty(0, dtype=np.uint64)


def _without(corpus: Corpus, others: NDArray[np.uint64]) -> Corpus:
    """The documents of a corpus whose keys are not among others."""
    among = np.isin(keys([corpus]), others)
    return corpus.select(~among) if among.any() else corpus


def store_items(line: Line, suite: Items) -> Mapping[str, TensorRef]:
    """A suite of questions as stored bytes, so that later versions are asked the same."""
    rows = [
        [i.id, i.prompt, list(i.choices), i.answer, list(i.tags), i.where, *([True] if i.chat else [])]
        for i in suite.items
    ]
    settings: dict[str, Any] = {
        "name": suite.name,
        "normalise": suite.normalise,
        "stop": suite.stop,
        "skip_bad": suite.skip_bad,
    }
    if isinstance(suite, Answered):
        settings["answered"] = suite.how.to_json()
    raw = canonical({**settings, "items": rows})
    return {"items": line.put_tensor(torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy()))}


def load_items(line: Line, version: Version) -> list[Items]:
    """The suites of questions that a version carries."""
    return [items_of(line, refs) for name, refs in sorted(version.bundles.items()) if name.startswith("suite/")]


def items_of(line: Line, refs: Mapping[str, Any]) -> Items:
    """The suite that `store_items` stored."""
    raw = json.loads(tensor_of(line, refs["items"]).numpy().tobytes())
    items = tuple(Item(i, p, tuple(c), a, tuple(t), *rest) for i, p, c, a, t, *rest in raw.pop("items"))
    if (how := raw.pop("answered", None)) is not None:
        return Answered(items=items, how=Answering.of_json(how), **raw)
    return Items(items=items, **raw)


def tensor_of(line: Line, ref: TensorRef | Mapping[str, Any]) -> Tensor:
    """The tensor that a reference names, also one that was kept as JSON."""
    return line.tensor(ref if isinstance(ref, TensorRef) else TensorRef(**{**ref, "shape": tuple(ref["shape"])}))


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it if it is taken."""
    if name not in taken:
        return name
    return next(f"{name}-{i}" for i in range(2, len(taken) + 3) if f"{name}-{i}" not in taken)


def check_context(wanted: int | None, model: int | None, longest: int = 4096) -> int:
    """The context of blocks: what was asked for, or the model's own up to `longest` tokens."""
    if wanted is not None and model is not None and wanted > model:
        raise RegraftError(f"a context of {wanted} tokens is longer than the model's {model}", where="context")
    return wanted or min(model or longest, longest)
