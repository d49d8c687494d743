"""`methods`, `claims run`: the catalogue and its evidence. Imports no torch before a claim runs."""

from __future__ import annotations

import difflib
import json
from functools import partial
from statistics import fmean
from typing import Any

from regraft.cli.live import err, out
from regraft.cli.tables import plain_table
from regraft.core.errors import RegraftError

STANDINGS = "standing: what measuring its claim came to; stale: its code changed since; no claim: a building block"
NEAR = 6


def methods(name: str | None, as_json: bool, tag: str | None) -> None:
    from regraft.evidence.cards import card, cards

    if name is not None:
        _card(card(name).to_json(), as_json)
        return
    every = cards()
    asked = [] if tag is None else [each.strip() for each in tag.split(",")]
    known = sorted({t for c in every for t in c.tags})
    if (unknown := next((each for each in asked if each not in known), None)) is not None:
        what = f"no method has the tag {unknown!r}" if unknown else "a tag is empty"
        raise RegraftError(what, do=_some_tags(unknown, known))
    found = [c for c in every if set(asked) <= set(c.tags)]
    if not found:
        raise RegraftError(f"no method has all of the tags {', '.join(asked)}")
    if as_json:
        print(json.dumps([c.to_json() for c in found], indent=1, ensure_ascii=False))
        return
    table = plain_table("name", "kind", "standing", "what it does")
    for c in sorted(found, key=lambda c: (c.kind, c.name)):
        table.add_row(c.name, c.kind, c.standing, c.headline)
    out.print(table)
    out.print(f"\n{STANDINGS}", style="dim", soft_wrap=True)


def _some_tags(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=NEAR, cutoff=0.4)
    some = f"Near it: {', '.join(near)}" if near else f"Some of them: {', '.join(known[:NEAR])}"
    return f"{some}; `regraft methods --json` shows all"


def _card(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    out.print(f"{facts['name']} ({facts['kind']}): {facts['headline']}\n")
    if facts["formula"]:
        out.print("\n".join(f"    {line}" for line in facts["formula"].splitlines()) + "\n", soft_wrap=True)
    for paper in facts["papers"]:
        out.print(f"paper     {paper['title']}  {paper['url']}")
    for field in ("claim", "needs", "leaves", "differs"):
        if facts[field]:
            out.print(f"{field:<10}{facts[field]}")
    for knob in facts["knobs"]:
        out.print(f"knob      {knob['name']}: {knob['type']} = {knob['default']}")
    out.print(f"standing  {facts['standing']}")
    if facts["measured"]:
        _measured(facts["measured"])
    if facts["kind"] == "strategy":
        _compared(facts["name"])


def _measured(measured: dict[str, Any]) -> None:
    out.print(f"\n{measured['says']}\n{measured['setting']}; seeds {', '.join(map(str, measured['seeds']))}\n")
    table = plain_table("score", "better", "than", "by", "asked", "verdict")
    for test in measured["tests"]:
        names = (test["score"], test["better"], test["than"])
        table.add_row(*names, f"{test['gap']:.4g}", f"{test['margin']:.4g}", test["verdict"])
    out.print(table)
    scores = sorted({score for found in measured["scores"].values() for score in found})
    table = plain_table("arm", *scores)
    for arm, found in measured["scores"].items():
        table.add_row(arm, *(f"{fmean(found[s]):.4g}" if s in found else "" for s in scores))
    out.print(table)
    if again := measured.get("reproduced"):
        on = ", ".join(map(str, again))
        out.print(f"\nthe runs are of an earlier state of the code; on seed {on} this one gave the same scores")


def _compared(name: str) -> None:
    from regraft.evidence.compared import Cells, stood

    if not (grounds := stood(name)):
        return
    out.print("\nagainst plain training; average and forgetting in % (text: nats); steps and cost (time): its are 1\n")
    table = plain_table("ground", "average", "plain", "forgetting", "plain", "steps", "cost", "kept")
    for ground, _, row, plain in grounds:
        its, bare = Cells.of(row), Cells.of(plain)
        table.add_row(ground, its.average, bare.average, its.forgetting, bare.forgetting, its.steps, its.cost, its.kept)
    out.print(table)


def run_claims(names: list[str], jobs: int) -> None:
    from regraft.evidence.claims import measure, stale_or_unmeasured

    def show(name: str, done: int, total: int, what: str) -> None:
        err.print(f"{name}: {done}/{total} {what}")

    for name in names or stale_or_unmeasured():
        record = measure(name, jobs=jobs, progress=partial(show, name))
        out.print(f"{name}: {record.standing}")
