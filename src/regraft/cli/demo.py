"""`regraft demo`:

prose first, then the world changes to source code; five ways to follow it, compared at equal compute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from regraft.cli.live import err, out
from regraft.cli.tables import plain_table
from regraft.cli.updates import Request, run
from regraft.core.errors import RegraftError
from regraft.store import Line

if TYPE_CHECKING:
    from regraft.evidence.gate import Policy

PROSE, CODE, PACKAGES = "prose", "code", "packages"
CHARACTERS = {PROSE: 1_600_000, CODE: 1_300_000, PACKAGES: 1_300_000}
FIRST_TOKENS, TOKENS = 700_000, 350_000
VOCABULARY, CONTEXT, BATCH = 1024, 128, 512
WIDTH, DEPTH = 96, 3
PEAK, SMALL = 4e-3, 4e-4
POLICY = """# What the demo's owner accepts: no suite may lose more than this share of its loss.
suites:
  "*": {worse_by_at_most: 5%}
"""
PROMPTS = ("The statement", "def read(self,", "class Error(")


@dataclass(frozen=True)
class Arm:
    """One way to follow the new text: its name for people, the version it begins from, its knobs."""

    says: str
    base: str
    texts: tuple[str, ...]
    knobs: Mapping[str, Any]
    unprotected: bool = False


REPLAY = {"tokens": TOKENS, "replay": 0.25}
ARMS = {
    "constant": Arm(
        "small constant rate", "prose", (CODE,), {"tokens": TOKENS, "replay": 0.0, "lr": SMALL, "schedule": "constant"}
    ),
    "rewarm": Arm("re-warm, no replay", "prose", (CODE,), {"tokens": TOKENS, "replay": 0.0}),
    "replay": Arm("re-warm + replay", "prose", (CODE,), REPLAY),
    "infinite": Arm("infinite + replay", "prose", (CODE,), {**REPLAY, "schedule": "infinite"}),
    "union": Arm("from scratch on both", "scratch", (PROSE, CODE), {"tokens": FIRST_TOKENS + TOKENS}, unprotected=True),
}
SECOND = {
    "replay-2": Arm("re-warm + replay", "replay", (PACKAGES,), REPLAY),
    "infinite-2": Arm("infinite + replay", "infinite", (PACKAGES,), {**REPLAY, "schedule": "infinite"}),
}


def demo(folder: Path, seed: int) -> None:
    if folder.exists():
        raise RegraftError("the demo's folder is there already", where=folder, do="Remove it, or name another one")
    from regraft.evidence.gate import Policy

    began = time.monotonic()
    line = _line(folder, seed)
    err.print("\nAn untrained Llama learns English prose; that is the model we own.")
    first = {"tokens": FIRST_TOKENS, "schedule": "infinite"}
    _run(line, "prose", Arm("", "scratch", (PROSE,), first, unprotected=True), folder, seed)
    line.point("released", "prose", "the model we own")
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    err.print("\nThe world changes: standard-library source code. Five ways to follow it.")
    for name, arm in ARMS.items():
        _run(line, name, arm, folder, seed)
    err.print("\nA second update: another slice of the library.")
    for name, arm in SECOND.items():
        _run(line, name, arm, folder, seed)
    line.rollback("replay", "the demo's choice")
    policy = Policy.load(folder / "policy.yaml")
    _table(line, "First update: prose, then code", ARMS, "replay", policy)
    _table(line, "Second update: then packages", SECOND, "replay-2", policy)
    _samples(line, ("prose", "replay"))
    _picture(line, folder / "curves.svg")
    _close(line, folder, time.monotonic() - began)


def _line(folder: Path, seed: int) -> Line:
    """Texts, an untrained model with its tokenizer, and the line that adopts it."""
    from regraft.recipes.adoption import adopt
    from regraft.worlds import llama, python_text

    err.print("Gathering the text that this Python carries …")
    texts = {
        PROSE: python_text.reference() + python_text.docstrings(),
        CODE: python_text.source("modules"),
        PACKAGES: python_text.source("packages"),
    }
    folder.mkdir(parents=True)
    for name, documents in texts.items():
        chosen = python_text.sample(documents, CHARACTERS[name])
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in chosen), encoding="utf-8")
    prose = python_text.sample(texts[PROSE], CHARACTERS[PROSE])
    tokenizer = llama.bpe((d["text"] for d in prose), VOCABULARY)
    llama.save(llama.llama(tokenizer, width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed), folder / "model")
    line, version = adopt(str(folder / "model"), folder / "line", message="an untrained Llama of 0.4M weights")
    line.point("scratch", version)
    return line


def _run(line: Line, name: str, arm: Arm, folder: Path, seed: int) -> None:
    knobs = {"lr": PEAK, "batch_tokens": BATCH, "context": CONTEXT, "replay": 0.0, "seed": seed, **arm.knobs}
    err.print(arm.says or "the first text", style="bold")
    request = Request(
        target=str(line.path),
        data=[str(folder / f"{text}.jsonl") for text in arm.texts],
        knobs=knobs,
        base=arm.base,
        message=f"{' and '.join(arm.texts)}: {arm.says or 'the first text'}",
        unprotected=arm.unprotected,
    )
    if (version := run(line, request, quiet=True)) is not None:
        line.point(name, version)


def _table(line: Line, title: str, arms: Mapping[str, Arm], chosen: str, policy: Policy) -> None:
    """Every arm on the suites of the chosen one; suites that an arm was not measured on are measured now."""
    from regraft.evidence.gate import check
    from regraft.recipes.readings import both, evidence

    reference = line.version(chosen)
    first = both(line, line.version(arms[chosen].base), reference).before
    suites = sorted(first, key=[PROSE, CODE, PACKAGES].index)
    table = plain_table("arm", *(f"loss on {suite}" for suite in suites), "mean", "tokens", "seconds", "gate")
    table.add_row("before", *(f"{first[suite].mean:.3f}" for suite in suites))
    for name, arm in arms.items():
        version = line.version(name)
        sides = both(line, line.version("prose" if arm.base == "scratch" else arm.base), version)
        found = [both(line, reference, version).after[suite].mean for suite in suites]
        spent = next(e.details for e in line.events() if e.new == version.id and e.what == "commit")
        row = [arm.says, *(f"{loss:.3f}" for loss in found), f"{sum(found) / len(found):.3f}"]
        decision = str(check(sides.before, sides.after, policy).decision)
        table.add_row(*row, f"{evidence(version)['tokens']:,}", f"{spent['seconds']:.0f}", decision)
    out.print(Text.assemble("\n", (title, "bold"), "  (nats per token on held-out documents, less is better)"))
    out.print(table)


def _picture(line: Line, path: Path) -> None:
    """The arms that begin where the first text ended:

    held-out loss on old and new text over the tokens of the update.
    """
    from regraft.recipes.readings import evidence
    from regraft.report.draw import Axis, Panel, Series, figure

    arms = [(name, arm) for name, arm in ARMS.items() if arm.base == "prose"]

    def panel(side: str, label: str) -> Panel:
        lines = []
        for colour, (name, arm) in enumerate(arms):
            records = [r for r in evidence(line.version(name))["curve"] if f"held/{side}" in r]
            tokens, losses = (tuple(r[key] for r in records) for key in ("tokens", f"held/{side}"))
            lines.append(Series(arm.says, tokens, losses, colour))
        return Panel(tuple(lines), Axis(label), height=190)

    picture = figure(
        (panel("old", "loss on prose, the old text (nats per token)"), panel("new", "loss on code, the new text")),
        Axis("tokens of the update", include=(0.0,)),
        title="Four ways to follow new text, at equal compute",
        description="Without replay the loss on the old text rises and stays; with replay it comes back.",
        width=820,
        standalone=True,
    )
    path.write_text(picture, encoding="utf-8")


def _samples(line: Line, names: tuple[str, str]) -> None:
    from regraft.numerics.rollout import texts
    from regraft.recipes.update import load_model

    models = {name: load_model(line, line.version(name)) for name in names}
    out.print("\nWhat it writes", style="bold")
    for prompt in PROMPTS:
        for when, name in zip(("before", "after"), names, strict=True):
            [text] = texts(models[name], [prompt], tokens=24, temperature=0.7)
            out.print(f"  {when:<7}{prompt!r} → {text[:70]!r}")


def _close(line: Line, folder: Path, seconds: float) -> None:
    from regraft.cli.judge import report

    report(line.path, "replay", "html", folder / "report.html", folder / "policy.yaml")
    out.print(f"\n{seconds:.0f} seconds. The line is yours to play with:")
    path = line.path
    for command in (
        f"regraft log {path}",
        f"regraft compare {path} prose replay",
        f"regraft check {path} prose rewarm --policy {folder}/policy.yaml",
        f"regraft promote {path} replay --policy {folder}/policy.yaml",
        f"regraft export {path} my-model released",
    ):
        out.print(f"  {command}")


__all__ = ["demo"]
