"""Which method for my case, and which two together: pages made of measurements and tags, not of opinion.

    python -m regraft.report.choosing            write docs/comparison.md, choosing.md, pairs.md and the figures
    python -m regraft.report.choosing --check    exit 1, naming each page that differs

The comparison is `evidence/records/_continual.json`; the pairs are `_pairs.json` beside it, of
`python -m regraft.worlds.pairs`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from regraft.evidence.cards import OURS, cards
from regraft.evidence.compared import Cells, Comparison, Row, alike, measured
from regraft.evidence.pages import keep_up
from regraft.report.methods import markdown, picture, untried

UPPER_BOUND, EXEMPLAR_FREE = "upper bound", "exemplar-free"
MADE = "<!-- Made by `python -m regraft.report.choosing` from figures and tags: not written by hand. -->\n\n"


class Case(NamedTuple):
    """A reader's case: the ground that stands for it, and what methods may not do."""

    says: str
    ground: str
    keeps_rows: bool


CASES = (
    Case("New classes arrive, one head answers for all; some old rows may be kept", "classes", True),
    Case("New classes arrive, one head answers for all; no old row may be kept", "classes", False),
    Case("New classes arrive, and it is known of which task an input is; some old rows may be kept", "told", True),
    Case("New classes arrive, and it is known of which task an input is; no old row may be kept", "told", False),
    Case("The classes stay, the inputs change; some old rows may be kept", "inputs", True),
    Case("The classes stay, the inputs change; no old row may be kept", "inputs", False),
    Case("Every row comes once; some old rows may be kept", "online", True),
    Case("Every row comes once; no old row may be kept", "online", False),
    Case("Nobody says where a task ends, tasks blur and come back; some old rows may be kept", "unbroken", True),
    Case("Nobody says where a task ends, tasks blur and come back; no old row may be kept", "unbroken", False),
    Case("New classes of a few rows; some old rows may be kept", "few_shot", True),
    Case("New classes of a few rows; no old row may be kept", "few_shot", False),
    Case("New classes for a pretrained transformer; some old rows may be kept", "pretrained", True),
    Case("New classes for a pretrained transformer; no old row may be kept", "pretrained", False),
    Case("Images and a network of convolutions, the task is known; some old rows may be kept", "images", True),
    Case("Images and a network of convolutions, the task is known; no old row may be kept", "images", False),
    Case("A language model reads one domain after the other; some old rows may be kept", "text", True),
    Case("A language model reads one domain after the other; no old row may be kept", "text", False),
)
UNMEASURED = (
    "images or a network of convolutions where one head answers for all classes, but for classes of a few rows",
    "a pretrained network where the task of an input is known, or the classes stay and the inputs change",
    "a language model, or a pretrained network, where nobody says where a task ends",
    "tasks that come back, or blur, where it is said where each ends",
    "hundreds of tasks; models of more than 0.2M weights",
)
"""Cases that no ground stands for."""


class Choice(NamedTuple):
    """The method measured best, those that cannot be told from it, and the cheapest of all these.

    `for_less`: the best of those that keep at most half as much memory as the best, the best of those that keep at most
    half as much as that one, and so on.
    """

    best: Row
    as_good: tuple[Row, ...]
    cheapest: Row
    for_less: tuple[Row, ...]


def choose(rows: Mapping[str, Sequence[Row]], case: Case, tags: Mapping[str, set[str]]) -> Choice | None:
    """What the figures of grounds say for a case; None where no method acts."""
    allowed = [
        row
        for row in rows.get(case.ground, ())
        if all(UPPER_BOUND not in tags.get(name, set()) for name in row.method.split("+"))
        and (case.keeps_rows or all(EXEMPLAR_FREE in tags.get(name, set()) for name in row.method.split("+")))
    ]
    if not (found := alike(allowed)):
        return None
    return Choice(found[0], found[1:], min(found, key=lambda row: row.cost), tuple(_for_less(allowed)))


def _for_less(rows: Sequence[Row]) -> Iterator[Row]:
    """Of rows that begin with the best, each best one at half the memory of the one before."""
    left = [row for row in rows if not row.refused and not row.diverged]
    while left:
        kept = left[0].mean("kept")[0]
        left = [row for row in left if row.mean("kept")[0] <= kept / 2 and kept]
        yield from left[:1]


def choosing(rows: Mapping[str, Sequence[Row]]) -> str:
    """The page that chooses, of the rows of every ground."""
    tags = {card.name: set(card.tags) for card in cards()}
    chosen = [(case.says, choice) for case in CASES if (choice := choose(rows, case, tags)) is not None]
    lines = [
        "# Which method for my case",
        "",
        "Each line is what the [comparison](comparison.md) measured: the best method for the case, and the cheapest of "
        "those that cannot be told from it (95%, paired over seeds). Upper bounds, which keep or train on everything, "
        "are left out. Averages are accuracies in percent; of text, losses in nats. Cost is time, plain training's "
        "being 1; kept is memory beside the network. On your own data: `regraft bench continual --recipe FILE`.",
        "",
        "| case | best measured | average | kept | cheapest as good | average | steps | cost | kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for says, choice in chosen:
        best, of = Cells.of(choice.best), Cells.of(choice.cheapest)
        lines.append(
            f"| {says} | {_link(choice.best)} | {best.average} | {best.kept} | {_link(choice.cheapest)} | {of.average} "
            f"| {of.steps} | {of.cost} | {of.kept} |"
        )
    lines += [
        "",
        "## For less memory",
        "",
        "What one gets for half of what the best keeps, for half of that, and so on: each time the best of those that "
        "keep no more.",
        "",
    ]
    for says, choice in chosen:
        steps = ", then ".join(f"{_link(row)} {_with_kept(row)}" for row in choice.for_less)
        lines.append(f"- {says}: {_link(choice.best)} {_with_kept(choice.best)}; {steps or 'nothing keeps less'}.")
    lines += ["", "## What cannot be told from the best", ""]
    for says, choice in chosen:
        as_good = ", ".join(f"{_link(row)} ({row.cost:.1f}×)" for row in choice.as_good) or "none"
        lines.append(f"- {says}: {_link(choice.best)} ({choice.best.cost:.1f}×); {as_good}.")
    silent = [case.says for case in CASES if choose(rows, case, tags) is None]
    lines += [
        "",
        "## What was not measured",
        "",
        "No ground of the comparison stands for these:",
        "",
    ]
    lines += [f"- {says[0].upper()}{says[1:]}." for says in (*silent, *UNMEASURED)]
    methods = known(rows)
    left = {ground: names for ground, of in rows.items() if (names := untried(of, methods))}
    if left:
        lines += ["", "## What was not tried", "", "Methods and sums that a ground was not asked for:", ""]
    for ground, names in left.items():
        listed = ", ".join(f"`{name}`" for name in names)
        lines.append(f"- {ground}, on which {len(rows[ground])} of {len(methods)} were tried: {listed}.")
    return MADE + "\n".join(lines) + "\n"


def known(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """All methods there are, and all sums that were tried on some ground."""
    methods = [card.name for card in cards() if card.kind == "strategy"]
    return sorted({*methods, *(row.method for of in rows.values() for row in of)})


def _with_kept(row: Row) -> str:
    cells = Cells.of(row)
    return f"{cells.average} ({cells.kept})"


def pairs(said: Mapping[str, Any]) -> str:
    """The page of pairs: a matrix, how much of it was held to null knobs, and why those that do not compose do not."""
    names: list[str] = said["methods"]
    why = {frozenset(pair.split("+")): reason for pair, reason in said["pairs"].items()}
    absent = {frozenset(pair.split("+")): len(of) for pair, of in said["absent"].items()}
    both, once, never = (sum(ways == n for ways in absent.values()) for n in (2, 1, 0))

    def cell(a: str, b: str) -> str:
        pair = frozenset((a, b))
        return "" if a == b else "·" if why[pair] else "○◐●"[absent[pair]]

    lines = [
        "# Which two together",
        "",
        f"{len(why)} pairs of methods, each run through a small stream: {len(absent)} compose, "
        f"{len(why) - len(absent)} do not (·), and each says why. A method with null knobs, at which it does nothing, "
        "was also run at them beside the other, which must then be what it is alone, bit for bit. That was held",
        "",
        f"- ● both ways for {both} pairs, where both have null knobs,",
        f"- ◐ one way for {once}, where one has,",
        f"- ○ not at all for {never}, where none has.",
        "",
        f"| | {' | '.join(str(i + 1) for i in range(len(names)))} |",
        "|---" * (len(names) + 1) + "|",
        *(f"| {i + 1} `{a}` | {' | '.join(cell(a, b) for b in names)} |" for i, a in enumerate(names)),
        "",
        "## Without null knobs",
        "",
        f"{len(said['lasting'])} of {len(names)} methods have none, since none of their knobs could make them plain "
        "training:",
        "",
        *(f"- {reason}: {', '.join(f'`{name}`' for name in of)}." for reason, of in _by_reason(said["lasting"])),
        "",
        "## Why not",
        "",
    ]
    reasons = {" + ".join(f"`{n}`" for n in pair.split("+")): _briefly(r) for pair, r in said["pairs"].items() if r}
    lines += [f"- {reason}: {', '.join(of)}." for reason, of in _by_reason(reasons)]
    return MADE + "\n".join(lines) + "\n"


def _by_reason(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Those that share a reason together, the largest group first."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason, []).append(name)
    return sorted(found.items(), key=lambda each: -len(each[1]))


def _briefly(reason: str) -> str:
    """A reason without the knobs of the parts that it names, so that alike ones stand together."""
    if reason.startswith("both "):
        return reason.partition(":")[0]
    while (shorter := re.sub(r"\([^()]*\)", "", reason)) != reason:
        reason = shorter
    return " ".join(reason.split())


def _link(row: Row) -> str:
    return " + ".join(f"[`{name}`](methods/{name}.md)" for name in row.method.split("+"))


def pages(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """The pages and figures by their path below docs/."""
    rows = {ground: rows for found in comparisons for ground, rows in found.rows.items()}
    tables = markdown(*comparisons, figure="![Methods on {0}](comparison-{0}.svg)", methods=known(rows))
    text = f"{MADE}# Methods for streams, compared\n\n{tables}"
    drawn = {
        f"comparison-{g}.svg": picture(found, g, standalone=True) + "\n" for found in comparisons for g in found.rows
    }
    return {"comparison.md": text, "choosing.md": choosing(rows), **drawn}


def every() -> dict[str, str]:
    """The pages of all that was measured."""
    said = json.loads(OURS.record("_pairs").read_text(encoding="utf-8"))
    return {**pages(measured()), "pairs.md": pairs(said)}


if __name__ == "__main__":
    sys.exit(keep_up(every(), sys.argv[1:]))
