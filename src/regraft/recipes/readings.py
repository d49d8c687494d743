"""What versions of a line say on suites: stored readings where there are any, else measured now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.evidence.items import Items, Normalise
from regraft.evidence.lm_eval import LmEvalTasks
from regraft.evidence.readings import Reading
from regraft.evidence.suites import HeldOut, Suite, load_suites
from regraft.models.causal import CausalLM
from regraft.recipes import texts
from regraft.recipes.sources import Sources, check_context, free_name, items_of, keys, load_items, store_items
from regraft.recipes.texts import Text
from regraft.recipes.update import Listener, Silence, load_model, stored_reading
from regraft.store import Line, Version
from regraft.store.documents import JSON

_READING, _SUITE = "reading/", "suite/"
HELD_OUT_UNIT = "nats/token"


@dataclass(frozen=True)
class Suites:
    """What a version is to be measured on.

    Attributes:
        files: questions (rows with `choices` or an `answer`) or documents, a suite each.
        normalise, stop: of questions, see `Items`.
        skip_bad: pass over bad rows and count them.
        tasks: of lm-evaluation-harness.
    """

    files: Sequence[Path] = ()
    normalise: Normalise = "none"
    stop: str | None = None
    skip_bad: bool = False
    tasks: LmEvalTasks | None = None

    def load(self, model: CausalLM) -> Sequence[Suite]:
        """The suites of the files, documents cut for this model."""
        return load_suites(
            self.files,
            tokenizer=model.tokenizer,
            cache=texts.cache_folder(),
            context=check_context(None, model.context),
            normalise=self.normalise,
            stop=self.stop,
            skip_bad=self.skip_bad,
        )


class Known(NamedTuple):
    """A stored reading, and the version whose evidence holds it."""

    reading: Reading
    holder: Version


@dataclass(frozen=True)
class Sides:
    """Two versions read: readings by suite, and the suites for which a model had to be run."""

    before: Mapping[str, Reading]
    after: Mapping[str, Reading]
    measured: tuple[str, ...] = ()


def evidence(version: Version) -> Mapping[str, Any]:
    """What was measured when the version was made; nothing for one that was adopted."""
    return version.evidence if isinstance(version.evidence, dict) else {}


def own(line: Line, version: Version) -> Sides:
    """The readings before and after the update that made a version; none for one that was adopted."""
    new = learned(line, [version])
    before, after = (
        _in_order({name: stored_reading(line, version, when, name) for name in evidence(version).get(when, {})}, new)
        for when in ("before", "after")
    )
    return Sides(before, after)


def measure(
    line: Line,
    version: Version,
    suites: Suites,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> list[Reading]:
    """Measures a version on suites of one's own and keeps the readings beside it, where `known` and `both` find them.

    Raises RegraftError for what cannot be read, and for a model that a suite does not fit; nothing is kept then.
    """
    model = load_model(line, version, device=device, trust_remote_code=trust_remote_code)
    found = []
    hears = listener or Silence()
    documents: dict[str, JSON] = {}
    trained = _trained(line, version)
    for suite in suites.load(model):
        if isinstance(suite, Items):
            documents[f"{_SUITE}{suite.fingerprint}"] = {n: asdict(ref) for n, ref in store_items(line, suite).items()}
        if isinstance(suite, HeldOut) and (count := _count_among(suite.corpus.row_ids, trained)):
            hears.notice(f"{suite.name}: {version.name} was trained on {count} of {suite.corpus.documents} documents")
        for why, count in suite.skipped.items():
            hears.notice(f"{suite.name}: skipped {count}: {why}")
        hears.stage(f"measuring {suite.name} ({version.name})")
        found.append(suite.measure(model))
        for remark in suite.remarks(found[-1]) if isinstance(suite, Items) else ():
            hears.notice(f"{suite.name}: {remark}")
    if suites.tasks is not None:
        hears.stage(f"measuring {', '.join(suites.tasks.names)} ({version.name})")
        found += suites.tasks.measure(model).values()
    for reading in found:
        header, arrays = reading.to_parts()
        documents[f"{_READING}{reading.fingerprint}"] = {
            **header,
            "mean": reading.mean,
            "arrays": {name: values.tolist() for name, values in arrays.items()},
        }
    line.note(version, documents, "measured on " + ", ".join(reading.suite for reading in found))
    return found


def later(line: Line, version: Version) -> dict[str, Reading]:
    """What `measure` kept of a version, by the suite's fingerprint."""
    documents = [line.json(digest) for name, digest in line.notes(version).items() if name.startswith(_READING)]
    readings = [
        Reading.from_parts(d, {name: np.array(values) for name, values in d["arrays"].items()}) for d in documents
    ]
    return _by_fingerprint({reading.fingerprint: reading for reading in readings})


def known(line: Line, version: Version) -> dict[str, Known]:
    """Every stored reading of a version by the suite's fingerprint: those of its own update, those that were made
    later, and those that its children began with."""
    found = {fp: Known(r, version) for fp, r in _read(line, version).items()}
    for child in line.versions():
        if child.parents[:1] == (version.id,):
            for reading in own(line, child).before.values():
                found.setdefault(reading.fingerprint, Known(reading, child))
    return found


def both(
    line: Line,
    a: Version,
    b: Version,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> Sides:
    """Versions `a` and `b` on every suite that either was read with.

    Those are the suites of their own updates, and those that `measure` read them with later. A suite that one of them
    was not read with is taken from an update that began there, or rebuilt from the line and measured now; if it cannot
    be rebuilt, it stays on one side only. Suites are matched by their items, not by name; `b` names them.
    """
    hears = listener or Silence()
    wanted: dict[str, Known] = {}
    for holder in (b, a):
        for fp, reading in _read(line, holder).items():
            wanted.setdefault(fp, Known(reading, holder))
    readings: dict[str, dict[str, Reading]] = {}
    measured: dict[str, None] = {}
    for version in (a, b):
        held = {fp: k.reading for fp, k in known(line, version).items() if fp in wanted}
        lacking = {fp: wanted[fp] for fp in wanted if fp not in held}
        fresh = _measure(line, version, lacking, device, trust_remote_code, hears)
        readings[version.id] = held | fresh
        measured |= dict.fromkeys(fresh)
    names: dict[str, str] = {}
    for fingerprint, (reading, _) in wanted.items():
        names[fingerprint] = free_name(reading.suite, names.values())
    for version in (a, b):
        trained = _trained(line, version)
        for fp, reading in readings[version.id].items():
            if reading.unit == HELD_OUT_UNIT and (count := _count_among(reading.ids, trained)):
                hears.notice(f"{names[fp]}: {version.name} was trained on {count} of {len(reading)} documents")
    past = {version.id for version in texts.lineage(line, a)}
    new = learned(line, [version for version in texts.lineage(line, b) if version.id not in past])
    before, after = (
        _in_order({names[fp]: replace(r, suite=names[fp]) for fp, r in readings[version.id].items()}, new)
        for version in (a, b)
    )
    return Sides(before, after, tuple(names[fp] for fp in measured))


def of_update(line: Line, version: Version) -> Sides:
    """The readings of the update that made a version, and what both its sides were measured on later: nothing is
    measured now."""
    sides = own(line, version)
    if not version.parents:
        return sides
    before, after = dict(sides.before), dict(sides.after)
    names = {reading.fingerprint: name for name, reading in (before | after).items()}
    for side, holder in ((after, version), (before, line.version(version.parents[0]))):
        for fp, reading in later(line, holder).items():
            name = names.setdefault(fp, free_name(reading.suite, names.values()))
            side.setdefault(name, replace(reading, suite=name))
    return Sides(before, after)


def learned(line: Line, versions: Iterable[Version]) -> set[str]:
    """Fingerprints of the held-out documents of the texts that these versions learned."""
    given = [(version, sources) for version in versions if (sources := _sources(line, version)) is not None]
    return {
        HeldOut("new", sources.learned.held, _context(version)).fingerprint
        for version, sources in given
        if sources.learned is not None and sources.learned.held.documents
    }


def _sources(line: Line, version: Version) -> Sources | None:
    """What the update that made a version was given; None for one that no update made."""
    new, kept = ([use.corpus for use in version.corpora if use.role == role] for role in ("new", "kept"))
    if not version.parents:
        return None
    base = line.version(version.parents[0])
    return Sources(
        Text.open(line, new[0]) if new else None,
        past=texts.past(line, base),
        kept=[Text.open(line, digest) for digest in kept],
    )


def _trained(line: Line, version: Version) -> NDArray[np.uint64]:
    """The keys of the documents that a version was trained on."""
    return keys([seen for _, seen in texts.past(line, version)])


def _count_among(ids: Sequence[str], trained: NDArray[np.uint64]) -> int:
    asked = np.frombuffer(bytes.fromhex("".join(ids)), dtype=np.uint64)[::2]
    return int(np.isin(asked, trained).sum())


def _read(line: Line, version: Version) -> dict[str, Reading]:
    """What a version itself was read with, by fingerprint."""
    mine = _by_fingerprint(own(line, version).after)
    return mine | {fp: reading for fp, reading in later(line, version).items() if fp not in mine}


def _measure(
    line: Line,
    version: Version,
    lacking: Mapping[str, Known],
    device: str,
    trust_remote_code: bool,
    listener: Listener,
) -> dict[str, Reading]:
    suites = {fp: suite for fp, k in lacking.items() if (suite := _rebuilt(line, k)) is not None}
    if not suites:
        return {}
    model = load_model(line, version, device=device, trust_remote_code=trust_remote_code)
    found = {}
    for fingerprint, suite in suites.items():
        listener.stage(f"measuring {suite.name} ({version.name})")
        found[fingerprint] = suite.measure(model)
    return found


def _rebuilt(line: Line, k: Known) -> Suite | None:
    """The suite of a stored reading, from what the line holds."""
    sources = _sources(line, k.holder)
    held = [] if sources is None else [t.held for t in sources.texts() if t.held.documents]
    documents = [HeldOut(k.reading.suite, corpus, _context(k.holder)) for corpus in held]
    noted = [items_of(line, line.json(d)) for name, d in line.notes(k.holder).items() if name.startswith(_SUITE)]
    suites: Sequence[Suite] = [*documents, *load_items(line, k.holder), *noted]
    return next((suite for suite in suites if suite.fingerprint == k.reading.fingerprint), None)


def _context(version: Version) -> int:
    record = version.record if isinstance(version.record, dict) else {}
    context = record.get("context")
    return context if isinstance(context, int) else 1


def _by_fingerprint(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    return {reading.fingerprint: reading for reading in readings.values()}


def _in_order(readings: Mapping[str, Reading], new: set[str]) -> dict[str, Reading]:
    """What was learned first, then other texts, then questions."""

    def place(name: str) -> tuple[int, str]:
        reading = readings[name]
        return (0 if reading.fingerprint in new else 2 if reading.right_or_wrong else 1), name

    return {name: readings[name] for name in sorted(readings, key=place)}
