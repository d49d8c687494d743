"""`adopt` and `learn`: commands that make versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regraft.cli.live import Live, err, out
from regraft.core.errors import RegraftError
from regraft.store import Line, Version


@dataclass(frozen=True)
class Request:
    """What `learn` was asked for. Texts and knobs are resolved before a run begins, and kept with it for `--resume`."""

    target: str
    data: list[str]
    knobs: dict[str, Any]
    keep: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    line: Path | None = None
    base: str = "head"
    message: str = ""
    unprotected: bool = False
    skip_bad: bool = False
    device: str = "cpu"


def adopt(model: str, line: Path, trust_remote_code: bool) -> None:
    from regraft.recipes.adopt import adopt

    made, version = adopt(model, line, trust_remote_code=trust_remote_code)
    out.print(f"{made.path}: {version.name} {version.id[:12]}  {version.message}", markup=False)


def learn(request: Request, *, plan_only: bool, resume: bool, restart: bool) -> None:
    line = _line(request)
    version = run(line, request, plan_only=plan_only, resume=resume, restart=restart)
    if version is not None:
        _say(line, version)


def run(
    line: Line,
    request: Request,
    *,
    plan_only: bool = False,
    resume: bool = False,
    restart: bool = False,
    quiet: bool = False,
) -> Version | None:
    """Carries out what was asked for, or goes on with what was left unfinished; the new version."""
    with line.writing():
        if resume:
            name, order = _unfinished(line)
        else:
            name, order = _order(line, request)
            _begin(line, name, order, restart)
        return _learn(line, name, order, request.device, plan_only, quiet)


def _line(request: Request) -> Line:
    if Line.is_line(request.target):
        return Line.open(request.target)
    place = request.line or Path(f"{Path(request.target).name}-line")
    if Line.is_line(place):
        return Line.open(place)
    from regraft.recipes.adopt import adopt

    made, version = adopt(request.target, place)
    err.print(f"{made.path}: a new line, {version.name} {version.message}", markup=False)
    return made


def _order(line: Line, request: Request) -> tuple[str, dict[str, Any]]:
    """What the run will do, by content: the same order is the same run."""
    from regraft.evidence.items import Items
    from regraft.recipes import texts
    from regraft.recipes.sources import store_items
    from regraft.recipes.update import load_tokenizer

    if not request.data:
        raise RegraftError("no new text", do="Name it with --data")
    base = line.version(request.base)
    if not request.keep and not request.unprotected and not texts.past(line, base):
        raise RegraftError(
            "the line does not know what the model was trained on, so nothing it knew would be replayed or measured",
            where=line.path,
            do="Give texts to keep with --keep, or say --unprotected",
        )
    items = [Items.read(path, skip_bad=request.skip_bad) for path in request.suites]
    tokenizer = load_tokenizer(line, base)

    def read(paths: list[str]) -> str:
        return texts.add(line, paths, tokenizer, skip_bad=request.skip_bad)

    order = {
        "base": base.id,
        "knobs": request.knobs,
        "new": read(request.data),
        "kept": [read([path]) for path in request.keep],
        "suites": [{n: asdict(ref) for n, ref in store_items(line, suite).items()} for suite in items],
        "message": request.message or "learned " + ", ".join(Path(d).name for d in request.data),
    }
    digest = hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
    return f"learn-{digest[:12]}", order


def knobs_from(recipe: Path | None, said: list[str], seed: int) -> dict[str, Any]:
    """The recipe's knobs from its file and from --set, checked; the error names the key."""
    from regraft.recipes.files import check, read_recipe

    knobs: dict[str, Any] = read_recipe(recipe) if recipe else {}
    for each in said:
        key, found, value = each.partition("=")
        if not found:
            raise RegraftError(f"{each!r} is not key=value", where="--set")
        knobs[key] = yaml.safe_load(value)
    knobs.setdefault("seed", seed)
    check(knobs, where=str(recipe or "--set"))
    return knobs


def _begin(line: Line, run: str, order: dict[str, Any], restart: bool) -> None:
    finished = line.finished_runs()
    for other in line.runs():
        if other in finished or restart:
            line.remove_run(other)
        else:
            raise RegraftError(f"an unfinished run is here: {other}", where=line.path, do="Use --resume or --restart")
    (line.run_dir(run) / "order.json").write_text(json.dumps(order))


def _unfinished(line: Line) -> tuple[str, dict[str, Any]]:
    runs = [
        run for run in line.runs() if run not in line.finished_runs() and (line.run_dir(run) / "order.json").exists()
    ]
    if not runs:
        raise RegraftError("there is no unfinished run to go on with", where=line.path)
    return runs[0], json.loads((line.run_dir(runs[0]) / "order.json").read_text())


def _learn(line: Line, run: str, order: dict[str, Any], device: str, plan_only: bool, quiet: bool) -> Version | None:
    from regraft.recipes import texts
    from regraft.recipes.learn import learn
    from regraft.recipes.sources import Sources, items_of, load_items
    from regraft.recipes.texts import Text
    from regraft.recipes.update import Update

    base = line.version(order["base"])
    live = Live(quiet=quiet)
    sources = Sources(
        new=Text.open(line, order["new"]),
        past=texts.past(line, base),
        kept=[Text.open(line, digest) for digest in order["kept"]],
        items=[items_of(line, refs) for refs in order["suites"]],
        carried=load_items(line, base),
        message=order["message"],
        skipped=line.corpus(order["new"])["skipped"],
    )
    for why, count in sources.skipped.items():
        live.notice(f"skipped    {count} rows: {why}")
    update = Update(line, base, run, device=device, listener=live)
    try:
        return learn(**order["knobs"])(update, sources, plan_only=plan_only)
    finally:
        live.close()
        if plan_only:
            line.remove_run(run)


def _say(line: Line, version: Version) -> None:
    from regraft.cli.judge import show_comparison

    show_comparison(line, version)
    out.print(f"\n{version.name} {version.id[:12]}  {version.message}", markup=False)
