"""The generated pages of the docs: one for every method, their index, and the papers that are covered.

    python -m regraft.evidence.pages            write docs/methods/*.md and docs/coverage.md
    python -m regraft.evidence.pages --check    exit 1, naming each page that differs from the tree

Everything on them comes from cards and records: equal trees give equal bytes.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from regraft.core.errors import RegraftError
from regraft.evidence.cards import OURS, Card, cards
from regraft.evidence.claims import renew
from regraft.evidence.compared import Cells, Stood, remark, stood
from regraft.evidence.tags import SURVEYS, TAGS

_MADE = "<!-- Made by `python -m regraft.evidence.pages`: edit the method's docstring, not this page. -->\n"


def pages(root: Path = OURS.root) -> dict[str, str]:
    """The text of every page, by its path below docs/."""
    every = cards(root)
    texts = {f"methods/{c.name}.md": _method(c) for c in every}
    whole = {"methods/index.md": _index(every), "coverage.md": _coverage(every), "taxonomy.md": _taxonomy(every)}
    return {**whole, **texts}


def write(docs: Path, root: Path = OURS.root) -> list[str]:
    """Brings `docs` into line with the tree; returns the pages that changed or went."""
    texts = pages(root)
    wrong = _differing(docs, texts)
    for name in wrong:
        path = docs / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return wrong


def differing(docs: Path, root: Path = OURS.root) -> list[str]:
    """The pages that are missing, are not what the tree says, or belong to no method any more."""
    return _differing(docs, pages(root))


def _differing(docs: Path, texts: Mapping[str, str]) -> list[str]:
    left_over = {f"methods/{p.name}" for p in (docs / "methods").glob("*.md")} - texts.keys()
    wrong = {n for n, t in texts.items() if not (docs / n).is_file() or (docs / n).read_text(encoding="utf-8") != t}
    return sorted(wrong | left_over)


# --- the pages --------------------------------------------------------------------------------------------------------


def _index(every: Sequence[Card]) -> str:
    standings = {s: sum(c.standing == s for c in every) for s in dict.fromkeys(c.standing for c in every)}
    counted = ", ".join(f"{n} {s}" for s, n in sorted(standings.items()))
    blocks = ["# Methods", f"{len(every)} methods{': ' if counted else ''}{counted}."]
    for kind, of in groupby(every, key=lambda c: c.kind):
        rows = [
            (
                f"[`{c.name}`]({c.name}.md)",
                _escaped(c.headline),
                c.standing,
                "; ".join(_link(p.title, p.url) for p in c.papers),
            )
            for c in of
        ]
        blocks += [f"## {_plural(kind)}", _table(("Name", "What it does", "Standing", "Papers"), rows)]
    return _page(blocks)


def _coverage(every: Sequence[Card]) -> str:
    uses: dict[str, list[Card]] = {}
    urls: dict[str, str] = {}
    for card in every:
        for paper in card.papers:
            uses.setdefault(paper.title, []).append(card)
            urls.setdefault(paper.title, paper.url)
    rows = [
        (
            _link(title, urls[title]),
            _short(urls[title]),
            ", ".join(f"[`{c.name}`](methods/{c.name}.md) ({c.standing})" for c in of),
        )
        for title, of in sorted(uses.items())
    ]
    return _page(
        [
            "# Coverage",
            f"{len(rows)} papers, by title, and the methods that come from them.",
            _table(("Paper", "Source", "Methods"), rows),
        ]
    )


def _taxonomy(every: Sequence[Card]) -> str:
    blocks = [
        "# Taxonomy",
        "What the tags on cards mean, and the methods that carry them. `regraft methods --tag A,B` lists those that "
        "carry both. The words are those of four surveys: "
        + "; ".join(_link(title, f"https://arxiv.org/abs/{number}") for title, number in SURVEYS.items())
        + ".",
    ]
    for group, tags in TAGS.items():
        rows = [
            (tag, _escaped(says), ", ".join(f"[`{c.name}`](methods/{c.name}.md)" for c in every if tag in c.tags))
            for tag, says in tags.items()
        ]
        blocks += [f"## {group}", _table(("Tag", "Meaning", "Methods"), rows)]
    return _page(blocks)


def _method(card: Card) -> str:
    blocks = [f"# {card.name}", _escaped(card.headline), f"{card.kind.capitalize()} · {card.standing}"]
    blocks += [f"```text\n{card.formula}\n```"] if card.formula else []
    blocks += [card.prose] if card.prose else []
    said = (("Claim", card.claim), ("Needs", card.needs), ("Leaves", card.leaves), ("Differs", card.differs))
    blocks += ["\n".join(f"- **{name}:** {text}" for name, text in (*said, ("Tags", ", ".join(card.tags))) if text)]
    if card.knobs:
        knobs = [
            (_code(k.name), _code(k.type), "required" if k.default is None else _code(k.default)) for k in card.knobs
        ]
        blocks += ["## Knobs", _table(("Name", "Type", "Default"), knobs)]
    if card.papers:
        papers = [f"- {_link(p.title, p.url)}{f', {_escaped(p.by)}' if p.by else ''}" for p in card.papers]
        blocks += ["## Papers", "\n".join(papers)]
    if card.measured is not None:
        blocks += ["## Measured", *_measured(card.measured)]
        blocks += (
            ["The code has changed since: these figures are of the code before."] if card.standing == "stale" else []
        )
    if card.kind == "strategy" and (grounds := stood(card.name)):
        blocks += ["## Compared", *_compared(grounds)]
    return _page(blocks)


def _compared(grounds: Sequence[Stood]) -> list[str]:
    rows = []
    for ground, what, row, plain in grounds:
        (_, average, forgetting, *others), bare = Cells.of(row), Cells.of(plain)
        rows.append((f"{ground}: {what}", average, bare.average, forgetting, bare.forgetting, *others))
    head = ("Ground", "Average", "Plain", "Forgetting", "Plain", "Steps", "Cost", "Kept", "Setting")
    says = (
        "Against plain training, on the grounds of the [comparison](../comparison.md); steps and cost: updates and "
        "time, plain training 1."
    )
    remarks = [f"On {ground} it {said}." for ground, _, row, _ in grounds if (said := remark(row))]
    return [says, _table(head, [tuple(map(_escaped, row)) for row in rows]), *remarks]


def _measured(record: Mapping[str, Any]) -> list[str]:
    seeds = ", ".join(map(str, record["seeds"]))
    setting = f"{record['setting']}; seeds {seeds}"
    if record["calibrated_on"]:
        setting += f"; calibrated on {', '.join(map(str, record['calibrated_on']))}"
    tests = [
        (
            _escaped(t["score"]),
            _escaped(f"{t['better']} against {t['than']}"),
            _number(t["gap"]),
            _number(t["margin"]),
            " to ".join(map(_number, t["interval"])) if t["interval"] else "",
            _escaped(f"{t['verdict']}{f': {why}' if (why := t['why']) else ''}"),
        )
        for t in record["tests"]
    ]
    scores = list(dict.fromkeys(s for of in record["scores"].values() for s in of))
    unit = record["budget"]
    counted = [] if unit == "none" else [f"{unit.capitalize()} per seed"]
    arms = [
        (
            _escaped(arm),
            *(_each(of[s]) if s in of else "" for s in scores),
            *([_number(statistics.fmean(record["counts"][arm][unit]))] if counted else []),
        )
        for arm, of in record["scores"].items()
    ]
    blocks = [
        _escaped(record["says"]),
        f"Setting: {_escaped(setting)}.",
        _table(("Score", "Arms", "Gap", "Margin asked", "Gap beyond margin, 90%", "Verdict"), tests),
        _table(("Arm", *map(_escaped, scores), *counted), arms),
    ]
    if record["unequal"]:
        blocks += [
            "\n".join(f"- {_escaped(a)} has its own budget: {_escaped(r)}." for a, r in record["unequal"].items())
        ]
    if again := record.get("reproduced"):
        on = ", ".join(map(str, again))
        blocks += [f"The runs are of an earlier state of the code; on seed {on} this one gave the same scores."]
    if record["null"]:
        blocks += [_escaped(f"Null arm: {record['null']['arm']} equals {record['null']['baseline']} exactly.")]
    return blocks


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _page(blocks: Iterable[str]) -> str:
    head, *rest = (b for b in blocks if b)
    return "\n\n".join([head, _MADE.strip(), *rest]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_<>\[\]$])", r"\\\1", text)


def _code(text: str) -> str:
    """A code span in a table, where a bar ends a cell even inside the span."""
    return f"`{text}`".replace("|", r"\|") if text else ""


def _link(title: str, url: str) -> str:
    return f"[{_escaped(title)}]({url})"


def _short(url: str) -> str:
    found = re.fullmatch(r"https?://arxiv\.org/(?:abs|pdf)/(\S+)", url)
    return f"arXiv {found[1]}" if found else url.split("/")[2]


def _plural(kind: str) -> str:
    end = {"s": "es", "y": "ies"}.get(kind[-1], "s")
    return (kind[:-1] if end == "ies" else kind).capitalize() + end


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _each(values: Sequence[float]) -> str:
    """The mean, and every seed's value."""
    return f"{statistics.fmean(values):.4g} ({', '.join(f'{v:.4g}' for v in values)})"


def keep_up(texts: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Writes the pages of docs/ that differ from `texts`; with `--check` names them and answers 1."""
    docs = Path("docs")
    wrong = [n for n, t in texts.items() if not (docs / n).is_file() or (docs / n).read_text(encoding="utf-8") != t]
    check = "--check" in arguments
    for name in wrong:
        print(f"docs/{name}: {'differs: make docs' if check else 'written'}")
        if not check:
            (docs / name).write_text(texts[name], encoding="utf-8")
    return int(check and bool(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m regraft.evidence.pages", description="Write the generated docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page differs from the tree")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the docs folder (default: docs)")
    chosen = parser.parse_args(arguments)
    try:
        if not chosen.check:
            renew()
        found = differing(chosen.docs) if chosen.check else write(chosen.docs)
    except RegraftError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name in found:
        print(f"{chosen.docs / name}: {'differs from the tree' if chosen.check else 'written'}")
    return int(chosen.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
