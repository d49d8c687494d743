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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from regraft.evidence.cards import OURS, cards
from regraft.evidence.compared import Cells, Comparison, Row, alike, measured
from regraft.evidence.pages import keep_up
from regraft.report.methods import markdown, picture

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
    Case("New classes for a pretrained transformer; some old rows may be kept", "pretrained", True),
    Case("New classes for a pretrained transformer; no old row may be kept", "pretrained", False),
    Case("Images and a network of convolutions, the task is known; no old row may be kept", "images", False),
    Case("A language model reads one domain after the other; some old rows may be kept", "text", True),
    Case("A language model reads one domain after the other; no old row may be kept", "text", False),
)


class Choice(NamedTuple):
    """The method measured best, those that cannot be told from it, and the cheapest of all these."""

    best: Row
    as_good: tuple[Row, ...]
    cheapest: Row


def choose(rows: Mapping[str, Sequence[Row]], case: Case, tags: Mapping[str, set[str]]) -> Choice | None:
    """What the figures of grounds say for a case; None where no method acts."""
    allowed = [
        row
        for row in rows.get(case.ground, ())
        if all(UPPER_BOUND not in tags.get(name, set()) for name in row.method.split("+"))
        and (case.keeps_rows or all(EXEMPLAR_FREE in tags.get(name, set()) for name in row.method.split("+")))
    ]
    found = alike(allowed)
    return Choice(found[0], found[1:], min(found, key=lambda row: row.cost)) if found else None


def choosing(rows: Mapping[str, Sequence[Row]]) -> str:
    """The page that chooses, of the rows of every ground."""
    tags = {card.name: set(card.tags) for card in cards()}
    lines = [
        "# Which method for my case",
        "",
        "Each line is what the [comparison](comparison.md) measured: the best method for the case, and the cheapest of "
        "those that cannot be told from it (95%, paired over seeds). Upper bounds, which keep or train on everything, "
        "are left out. Averages are accuracies in percent; of text, losses in nats. On your own data: "
        "`regraft bench continual --recipe FILE`.",
        "",
        "| case | best measured | average | cheapest as good | average | steps | cost | kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    chosen = [(case.says, choice) for case in CASES if (choice := choose(rows, case, tags)) is not None]
    for says, (best, _, cheapest) in chosen:
        of = Cells.of(cheapest)
        lines.append(
            f"| {says} | {_link(best)} | {Cells.of(best).average} | {_link(cheapest)} | {of.average} | {of.steps} "
            f"| {of.cost} | {of.kept} |"
        )
    lines += ["", "## What cannot be told from the best", ""]
    for says, (best, as_good, _) in chosen:
        alike = ", ".join(f"{_link(row)} ({row.cost:.1f}×)" for row in as_good) or "none"
        lines.append(f"- {says}: {_link(best)} ({best.cost:.1f}×); {alike}.")
    return MADE + "\n".join(lines) + "\n"


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
        f"{len(said['lasting'])} of {len(names)} methods have none. What no knob takes away:",
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
    tables = markdown(*comparisons, figure="![Methods on {0}](comparison-{0}.svg)")
    text = f"{MADE}# Methods for streams, compared\n\n{tables}"
    drawn = {
        f"comparison-{g}.svg": picture(found, g, standalone=True) + "\n" for found in comparisons for g in found.rows
    }
    rows = {ground: rows for found in comparisons for ground, rows in found.rows.items()}
    return {"comparison.md": text, "choosing.md": choosing(rows), **drawn}


def every() -> dict[str, str]:
    """The pages of all that was measured."""
    said = json.loads(OURS.record("_pairs").read_text(encoding="utf-8"))
    return {**pages(measured()), "pairs.md": pairs(said)}


if __name__ == "__main__":
    sys.exit(keep_up(every(), sys.argv[1:]))
