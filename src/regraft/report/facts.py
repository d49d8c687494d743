"""What is known of one update, gathered from its line once; the writers say it as HTML, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from regraft.evidence.compare import Comparison, compare
from regraft.evidence.gate import Policy, Verdict, check
from regraft.evidence.readings import Paired, pair
from regraft.parts.metrics.stability_gap import HELD, Gap, measure_gap
from regraft.recipes import readings, texts
from regraft.recipes.sources import NEW, OLD
from regraft.report import words
from regraft.store import Event, Line, Version

FORMAT = 1
MOST_ITEMS = 12
"""So many items are shown a suite and a direction; all are counted."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Step:
    """A version of the lineage, with the pointers that name it now."""

    name: str
    id: str
    message: str
    time: str
    parents: tuple[str, ...]
    pointers: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """Over tokens: loss on held-out text by side ("new", "old"), the learning rate, and the mean reward of what the
    model wrote; `dips` are of the held-out losses, with their places in tokens."""

    held: Mapping[str, Points]
    lr: Points
    dips: Mapping[str, Gap]
    reward: Points = ()


@dataclass(frozen=True)
class Ability:
    """A suite's mean in each version of the matrix; None where it was not read."""

    suite: str
    unit: str
    lower_is_better: bool
    means: tuple[float | None, ...]


@dataclass(frozen=True)
class Matrix:
    """Abilities × versions of the lineage, oldest version first."""

    versions: tuple[str, ...]
    rows: tuple[Ability, ...]


@dataclass(frozen=True)
class Item:
    """One document or question, before and after. `weight`: tokens of a document, 1 for a question."""

    id: str
    text: str
    before: float
    after: float
    weight: float


@dataclass(frozen=True)
class Moved:
    """The items of a suite that got worse and better: how many, and those that moved most."""

    suite: str
    unit: str
    lower_is_better: bool
    items: int
    worse_count: int
    better_count: int
    worse: tuple[Item, ...]
    better: tuple[Item, ...]


@dataclass(frozen=True)
class Used:
    """A text that touched the version: how many of its documents, and in which role."""

    role: str
    files: tuple[str, ...]
    documents: int
    of: int


@dataclass(frozen=True)
class Costs:
    """What the update took. Seconds are those of the process that committed it; None where nobody wrote them down.

    `own_bytes`: stored files that no other version of the line needs.
    """

    tokens: int | None
    seconds: float | None
    tokens_per_second: float | None
    own_bytes: int
    line_bytes: int
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """One update. `compared` and `verdict` are None for a version that was adopted.

    Attributes:
        headline: what it did, one clause a side.
        plan: what was chosen and why, by topic.
        roles: what each suite is for: new text, old text, questions.
        skipped: rows passed over, by reason.
        record: the recipe, its knobs, seeds and calls.
    """

    line: str
    version: Step
    headline: tuple[str, ...]
    plan: tuple[tuple[str, str], ...]
    compared: Comparison | None
    verdict: Verdict | None
    roles: Mapping[str, str]
    curve: Curve | None
    matrix: Matrix
    moved: tuple[Moved, ...]
    used: tuple[Used, ...]
    skipped: Mapping[str, int]
    costs: Costs
    lineage: tuple[Step, ...]
    record: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {"format": FORMAT, **asdict(self)}


def gather(line: Line, version: Version, policy: Policy | None = None) -> Report:
    """Everything that the line knows of a version, judged by a policy (the default one if None).

    Raises:
        DamagedStore: something of it is not what was written.
    """
    policy = policy or Policy()
    sides = readings.of_update(line, version)
    new = _new_suites(line, version, sides)
    compared = verdict = None
    headline: tuple[str, ...] = (version.message, "nothing was measured: the gate has nothing to judge")
    if sides.before and sides.after:
        compared = compare(sides.before, sides.after)
        verdict = check(sides.before, sides.after, policy)
        headline = words.headline(compared, verdict, policy, new)
    evidence = readings.evidence(version)
    event = _commit(line, version)
    details = event.details if event is not None and isinstance(event.details, dict) else {}
    lineage = texts.lineage(line, version)
    steps = _steps(line, lineage)
    return Report(
        line=line.path.name,
        version=steps[-1],
        headline=headline,
        plan=tuple(_topic(each) for each in evidence.get("why", ())),
        compared=compared,
        verdict=verdict,
        roles={name: _role(name, new, r.right_or_wrong) for name, r in sides.after.items()},
        curve=_curve(evidence.get("curve", ())),
        matrix=_matrix(line, lineage),
        moved=tuple(_moved(pair(sides.before[n], r)) for n, r in sides.after.items() if n in sides.before),
        used=_used(line, version),
        skipped=details.get("skipped") or {},
        costs=_costs(line, version, evidence.get("tokens"), details),
        lineage=steps,
        record=version.record if isinstance(version.record, dict) else {},
    )


def _new_suites(line: Line, version: Version, sides: readings.Sides) -> set[str]:
    marks = readings.learned(line, [version])
    return {name for name, reading in sides.after.items() if reading.fingerprint in marks}


def _role(suite: str, new: set[str], right_or_wrong: bool) -> str:
    if suite in new:
        return words.NEW
    return words.QUESTIONS if right_or_wrong else words.OLD


def _topic(said: str) -> tuple[str, str]:
    topic, _, rest = said.partition(" ")
    return topic, rest.strip()


def _steps(line: Line, versions: Sequence[Version]) -> tuple[Step, ...]:
    pointers = line.pointers().items()
    return tuple(
        Step(v.name, v.id, v.message, v.time, v.parents, tuple(name for name, at in pointers if at == v.id))
        for v in versions
    )


def _commit(line: Line, version: Version) -> Event | None:
    return next((e for e in line.events() if e.what == "commit" and e.new == version.id), None)


def _curve(records: Sequence[Mapping[str, float]]) -> Curve | None:
    held = {side: _points(records, HELD + side) for side in (NEW, OLD)}
    held = {side: points for side, points in held.items() if points}
    reward = _points(records, "reward")
    if not held and not reward:
        return None
    dips = {
        side: measure_gap([t for t, _ in points], [loss for _, loss in points], better="lower", name=side)
        for side, points in held.items()
    }
    return Curve(held, _points(records, "lr"), dips, reward)


def _points(records: Sequence[Mapping[str, float]], key: str) -> Points:
    return tuple((r["tokens"], r[key]) for r in records if key in r)


def _matrix(line: Line, lineage: Sequence[Version]) -> Matrix:
    """Suites of the lineage's own updates, in the order they came, by their items: a name may have come twice."""
    read = [readings.known(line, version) for version in lineage]
    met = {
        k.reading.fingerprint: k.reading
        for version, side in zip(lineage, read, strict=True)
        for k in side.values()
        if k.holder.number <= lineage[-1].number
    }
    rows = tuple(
        Ability(
            reading.suite,
            reading.unit,
            reading.lower_is_better,
            tuple(side[fp].reading.mean if fp in side else None for side in read),
        )
        for fp, reading in met.items()
    )
    return Matrix(tuple(version.name for version in lineage), rows)


def _moved(both: Paired) -> Moved:
    """Which items moved, those that moved most first."""
    before, after = both.before, both.after
    worse = (after.values - before.values) * (1 if before.lower_is_better else -1)
    order = np.argsort(-worse, kind="stable")

    def items(rows: Sequence[int]) -> tuple[Item, ...]:
        shown = rows[:MOST_ITEMS]
        named = before.texts or ("",) * len(before)
        return tuple(
            Item(before.ids[i], named[i], float(before.values[i]), float(after.values[i]), float(before.weights[i]))
            for i in shown
        )

    return Moved(
        suite=before.suite,
        unit=before.unit,
        lower_is_better=before.lower_is_better,
        items=len(before),
        worse_count=int((worse > 0).sum()),
        better_count=int((worse < 0).sum()),
        worse=items([int(i) for i in order if worse[i] > 0]),
        better=items([int(i) for i in order[::-1] if worse[i] < 0]),
    )


def _used(line: Line, version: Version) -> tuple[Used, ...]:
    masks: dict[tuple[str, str], np.ndarray[Any, np.dtype[np.bool_]]] = {}
    for use in version.corpora:
        count = line.corpus(use.corpus)["documents"]
        mask = texts.touched(line, use, count)
        key = use.role, use.corpus
        masks[key] = masks[key] | mask if key in masks else mask
    return tuple(
        Used(role, tuple(file["path"] for file in line.corpus(corpus)["files"]), int(mask.sum()), len(mask))
        for (role, corpus), mask in sorted(masks.items(), key=lambda entry: entry[0])
    )


def _costs(line: Line, version: Version, tokens: Any, details: Mapping[str, Any]) -> Costs:
    disk = line.disk()
    seconds = details.get("seconds")
    return Costs(
        tokens=tokens,
        seconds=seconds,
        tokens_per_second=tokens / seconds if tokens and seconds else None,
        own_bytes=disk.own[version.id],
        line_bytes=disk.total,
        environment=details.get("environment") or {},
    )
