"""`adopt` and `learn`: commands that make versions."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.cli import runs
from regraft.cli.live import Live, err, out
from regraft.core.errors import Diverged, Interrupted, RegraftError
from regraft.core.memory import one_clear_memory_error
from regraft.core.names import utf8_text
from regraft.store import Line, Version
from regraft.store.documents import canonical

if TYPE_CHECKING:
    from regraft.data.corpus import Corpus
    from regraft.engine.processes import Processes
    from regraft.evidence.items import Items, Normalise
    from regraft.recipes.answered import Answered
    from regraft.store import TensorRef

OWN = ("learn-", "plan-")
"""How the names of this module's runs begin: those that make a version, and those that only show a plan."""


@dataclass(frozen=True)
class Skills:
    """Questions to learn from, and how their answers are checked: see `Answering`."""

    items: Path
    by: str = "exact"
    marker: str | None = None
    tokens: int | None = None
    copies: int = 8
    temperature: float = 1.0
    stop: tuple[str, ...] = ()
    chat: bool = False
    jobs: int = 1
    preferred: Path | None = None


@dataclass(frozen=True)
class Request:
    """What `learn` was asked for. Texts and knobs are resolved before a run begins, and kept with it for `--resume`.

    With `skills`, `data` are demonstrations.
    """

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
    normalise: Normalise = "none"
    stop: str | None = None
    device: str = "auto"
    trust_remote_code: bool = False
    checkpoint_seconds: float = 60.0
    skills: Skills | None = None

    @property
    def recipe(self) -> str:
        return "learn" if self.skills is None else "practise"


def adopt(model: str, line: Path, trust_remote_code: bool) -> None:
    from regraft.recipes.adoption import adopt

    made, version = adopt(model, line, trust_remote_code=trust_remote_code)
    out.print(f"{made.path}: {version.name} {version.id[:12]}  {version.message}")


@contextmanager
def processes(parallel: str | None) -> Iterator[Processes | None]:
    """The processes that torchrun started, this one among them; None: it did not. An error of any ends all."""
    if parallel not in (None, "ddp", "fsdp"):
        raise RegraftError(f"{parallel!r} is neither ddp nor fsdp", where="--parallel")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # DDP would recommend, once a process, not to look for unused tensors; torch reads this when it is imported.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from regraft.engine.distributed import joined

        with joined(parallel or "ddp") as group:  # type: ignore[arg-type]
            yield group
    elif parallel is None:
        yield None
    else:
        do = "Start it with `torchrun --nproc-per-node N -m regraft learn ...`"
        raise RegraftError("there is one process only", where="--parallel", do=do)


def learn(
    request: Request, *, plan_only: bool, resume: bool, restart: bool, processes: Processes | None = None
) -> None:
    if processes is not None and processes.rank:
        _follow(request, processes, plan_only=plan_only)
        return
    line = _line(request, resume)
    try:
        version = run(line, request, plan_only=plan_only, resume=resume, restart=restart, processes=processes)
    except KeyboardInterrupt:
        do = "Go on with --resume" if runs.unfinished(line) else "Nothing was begun: give the same command again"
        raise Interrupted("stopped", where=line.path, do=do) from None
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
    processes: Processes | None = None,
) -> Version | None:
    """Carries out what was asked for, or goes on with what was left unfinished; the new version."""
    from regraft.recipes.update import chosen_device

    chosen_device(request.device)
    with line.writing():
        if resume:
            name, order = _unfinished(line, request)
        else:
            name, order = _order(line, request)
        if plan_only:
            name = name.replace(*OWN)
        elif not resume:
            name = line.fresh_run(name)
            _begin(line, name, order, restart)
        if processes is not None:
            processes.tell({"line": str(line.path), "run": name, "order": order})
        return _learn(line, name, order, request, plan_only=plan_only, resumed=resume, quiet=quiet, processes=processes)


def _follow(request: Request, processes: Processes, *, plan_only: bool) -> None:
    """Takes part in the run of the first process, which reads the texts and writes the line."""
    from regraft.recipes.update import Fellow

    try:
        told = processes.tell(None)
        line, name, order = Fellow.open(told["line"]), told["run"], told["order"]
        _learn(line, name, order, request, plan_only=plan_only, resumed=True, quiet=True, processes=processes)
    except KeyboardInterrupt:
        raise Interrupted("stopped", do="Go on with --resume") from None


def _line(request: Request, resume: bool) -> Line:
    """The line that the target is or has, made now if need be."""
    from regraft.recipes.adoption import adopt, check_same

    target, place = Path(request.target), request.line or _beside(request.target)
    if Line.is_line(target) and ((found := Line.open(target)).versions() or resume):
        if request.line is not None and request.line.resolve() != target.resolve():
            raise RegraftError(f"{target} is a line itself", where=f"--line {request.line}", do="Name one of the two")
        return found
    if not resume:
        _check_asked(request)
    if Line.is_line(place) and ((found := Line.open(place)).versions() or resume):
        check_same(request.target, found, trust_remote_code=request.trust_remote_code)
        return found
    if resume:
        raise RegraftError("there is no line here, so there is no run to go on with", where=request.target)
    made, version = adopt(request.target, place, trust_remote_code=request.trust_remote_code)
    err.print(f"{made.path}: a new line, {version.name} {version.message}")
    return made


def _beside(target: str) -> Path:
    """Where the line of a model is made: beside its folder; for a hub name, in the working folder."""
    path = Path(os.path.abspath(target))
    return (path.parent if path.is_dir() else Path.cwd()) / f"{path.name}-line"


def _check_asked(request: Request) -> None:
    if not request.data and request.skills is None:
        raise RegraftError("no new text", do="Name it with --data")


def _order(line: Line, request: Request) -> tuple[str, dict[str, Any]]:
    """What the run will do, by content: the same order is the same run. Nothing is stored before all of it was read."""
    from regraft.evidence.items import Items
    from regraft.recipes import texts
    from regraft.recipes.learn import learn
    from regraft.recipes.preferences import Preferences
    from regraft.recipes.sources import load_items, store_items
    from regraft.recipes.update import load_context, load_tokenizer

    _check_asked(request)
    utf8_text(request.message, "-m")
    base = line.version(request.base)
    past = texts.past(line, base)
    if not request.keep and not request.unprotected and not past:
        raise RegraftError(
            "the line does not know what the model was trained on, so nothing it knew would be replayed or measured",
            where=line.path,
            do="Give texts to keep with --keep, or say --unprotected",
        )
    if not request.suites and (request.normalise != "none" or request.stop is not None):
        raise RegraftError("there are no questions to score", where="--normalise, --stop", do="Name them with --suite")
    items = [
        Items.read(path, normalise=request.normalise, stop=request.stop, skip_bad=request.skip_bad)
        for path in request.suites
    ]
    tokenizer = load_tokenizer(line, base, trust_remote_code=request.trust_remote_code)
    carried = load_items(line, base)
    pairs = None
    if request.skills is not None and request.skills.preferred is not None:
        pairs = Preferences.read(request.skills.preferred, tokenizer, skip_bad=request.skip_bad)
        for why, count in pairs.skipped.items():
            err.print(f"skipped    {count} pairs of {request.skills.preferred}: {why}")
    practice = None if request.skills is None else _practice(request.skills, [*carried, *items], tokenizer, request)
    for suite in items:
        for why, count in suite.skipped.items():
            err.print(f"skipped    {count} questions of {suite.name}: {why}")
    new = texts.read(request.data, tokenizer, skip_bad=request.skip_bad) if request.data else None
    kept = [texts.read([path], tokenizer, skip_bad=request.skip_bad) for path in request.keep]
    if new is not None and not past and not request.unprotected and all(c.digests == new.digests for c in kept):
        raise RegraftError(
            "the text to keep is the new text itself", where="--keep", do="Give others, or --unprotected"
        )
    if practice is None and new is not None:
        learn(**request.knobs).check(load_context(line, base, trust_remote_code=request.trust_remote_code), new)
    order: dict[str, Any] = {
        "base": base.id,
        "knobs": request.knobs,
        "new": None if new is None else texts.store(line, new),
        "kept": [texts.store(line, corpus) for corpus in kept],
        "message": request.message or "learned " + ", ".join(Path(d).name for d in request.data),
    }
    if practice is not None and request.skills is not None:
        learned, held, asked = practice
        items.append(held)
        order["skills"] = {
            "items": _stored(store_items(line, learned)),
            "corpus": texts.store(line, asked),
            "how": held.how.to_json(),
            "jobs": request.skills.jobs,
        }
        if pairs is not None:
            sides = asdict(line.put_tensor(pairs.sides))
            order["skills"]["preferred"] = {"corpus": texts.store(line, pairs.corpus), "sides": sides}
        order["message"] = request.message or f"practised {request.skills.items.stem}"
    order["suites"] = [_stored(store_items(line, suite)) for suite in items]
    return f"{OWN[0]}{hashlib.sha256(canonical(order)).hexdigest()[:12]}", order


def _stored(refs: Mapping[str, TensorRef]) -> dict[str, Any]:
    return {name: asdict(ref) for name, ref in refs.items()}


def _practice(skills: Skills, known: list[Items], tokenizer: Any, request: Request) -> tuple[Items, Answered, Corpus]:
    """Questions to learn from, those held out, and the first ones as a text, so that the line knows them by id."""
    from regraft.evidence.items import Items
    from regraft.recipes import texts
    from regraft.recipes.answered import Answered, Answering
    from regraft.recipes.practise import split

    items = Items.read(skills.items, skip_bad=request.skip_bad)
    for why, count in items.skipped.items():
        err.print(f"skipped    {count} questions of {items.name}: {why}")
    how = Answering.of(
        skills.by,
        marker=skills.marker,
        tokens=skills.tokens,
        copies=skills.copies,
        temperature=skills.temperature,
        stop=skills.stop,
        chat=skills.chat,
    )
    learned, held = split(items, known)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{skills.items.stem}.jsonl")
        rows = [{"text": item.prompt, "id": item.id} for item in learned.items if item.prompt.strip()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        asked = texts.read([str(path)], tokenizer, called=[str(skills.items)])
    suite = Answered(items.name, held.items, skip_bad=items.skip_bad, how=how)
    return learned, suite, asked


def knobs_from(recipe: Path | None, said: list[str], seed: int | None, name: str = "learn") -> dict[str, Any]:
    """The recipe's knobs from its file, --set and --seed, the later winning; checked: the error names the key."""
    from regraft.recipes.files import check, read_recipe

    knobs = {**(read_recipe(recipe, name) if recipe else {}), **set_knobs(said)}
    if seed is not None:
        knobs["seed"] = seed
    check(knobs, str(recipe or "--set"), _recipe(name))
    return knobs


def _recipe(name: str) -> Any:
    from regraft.recipes.learn import learn
    from regraft.recipes.practise import practise

    return {"learn": learn, "practise": practise}[name]


def set_knobs(said: list[str]) -> dict[str, Any]:
    """The knobs that --set names, their values read as YAML."""
    from regraft.recipes.files import parse_yaml

    knobs = {}
    for each in said:
        key, found, value = each.partition("=")
        if not found:
            raise RegraftError(f"{each!r} is not key=value", where="--set")
        knobs[key] = parse_yaml(value, where="--set")
    return knobs


def _orders(request: Request) -> list[str]:
    """The options that say, beside --data, what the run is to do."""
    said = {
        "--set, --recipe or --seed": request.knobs,
        "--keep": request.keep,
        "--suite": request.suites,
        "--normalise": request.normalise != "none",
        "--stop": request.stop is not None,
        "--base": request.base != "head",
        "--message": request.message,
        "--skills": request.skills is not None,
        "--unprotected": request.unprotected,
        "--skip-bad": request.skip_bad,
    }
    return [option for option, given in said.items() if given]


def _begin(line: Line, run: str, order: dict[str, Any], restart: bool) -> None:
    waiting = runs.unfinished(line)
    if waiting and not restart:
        raise RegraftError(f"an unfinished run is here: {waiting[0]}", where=line.path, do="Use --resume or --restart")
    finished = line.finished_runs()
    for other in line.runs():
        if other in finished or other.startswith(OWN):  # a run of another program is not ours to remove
            line.remove_run(other)
    runs.begin(line, run, order)


def _unfinished(line: Line, request: Request) -> tuple[str, dict[str, Any]]:
    """The run to go on with; if the command says what to learn, it must be what that run was asked for."""
    found = runs.unfinished(line)
    if not found:
        raise RegraftError("there is no unfinished run to go on with", where=line.path)
    asking = request.data or request.skills is not None
    if not asking and (ignored := _orders(request)):
        raise RegraftError(
            f"the unfinished run goes on as it was begun, so {', '.join(ignored)} would be ignored",
            where="--resume",
            do="Give --resume alone, or the whole command with --data or --skills",
        )
    if asking and (asked := _order(line, request)[0]) not in {name.partition(".")[0] for name in found}:
        raise RegraftError(
            f"the unfinished run {found[0]} was asked for something else than this command ({asked})",
            where=line.path,
            do="Give --resume alone to go on with it, or --restart to throw it away",
        )
    return found[0], runs.read(line, found[0])


def _learn(
    line: Line,
    run: str,
    order: dict[str, Any],
    request: Request,
    *,
    plan_only: bool,
    resumed: bool,
    quiet: bool,
    processes: Processes | None,
) -> Version | None:
    """Runs the recipe. A new run whose order turns out to be at fault before the training leaves nothing behind."""
    from regraft.recipes import texts
    from regraft.recipes.answered import Answering
    from regraft.recipes.learn import learn
    from regraft.recipes.practise import Questions, practise
    from regraft.recipes.sources import Sources, items_of, load_items, tensor_of
    from regraft.recipes.texts import Text
    from regraft.recipes.update import Update, chosen_device

    base = line.version(order["base"])
    live = Live(quiet=quiet)
    device = chosen_device(request.device)
    if processes is not None:
        device = processes.local(device)
    update: Update | None = None
    throw_away = plan_only
    try:
        with one_clear_memory_error("Set a lower micro_tokens, or a shorter context"):
            given = [order["new"]] if order["new"] is not None else []
            sources = Sources(
                Text.open(line, given[0]) if given else None,
                past=texts.past(line, base),
                kept=[Text.open(line, digest) for digest in order["kept"]],
                others=texts.elsewhere(line, base),
                items=[items_of(line, refs) for refs in order["suites"]],
                carried=load_items(line, base),
                message=order["message"],
                skipped=_skipped(line, [*given, *order["kept"]], live),
            )
            update = Update(
                line,
                base,
                run,
                device=device,
                listener=live,
                processes=processes,
                checkpoint_seconds=request.checkpoint_seconds,
                trust_remote_code=request.trust_remote_code,
            )
            live.notice(f"device     {device}")
            if "skills" not in order:
                return learn(**order["knobs"])(update, sources, plan_only=plan_only)
            asked = order["skills"]
            how = Answering.of_json(asked["how"])
            pairs = asked.get("preferred")
            preferred = pairs and (pairs["corpus"], tensor_of(line, pairs["sides"]))
            questions = Questions(items_of(line, asked["items"]), how, asked["corpus"], asked["jobs"], preferred)
            version = practise(**order["knobs"])(update, sources, questions, plan_only=plan_only)
            throw_away = throw_away or version is None
            return version
    except RegraftError as error:
        trained = update is not None and update.training
        throw_away = plan_only or (_at_fault(error) and not resumed and not trained)
        raise
    finally:
        live.close()
        if throw_away and (processes is None or processes.rank == 0):
            line.remove_run(run)


def _skipped(line: Line, corpora: list[str], live: Live) -> Counter[str]:
    """How many rows of the texts were passed over, by reason; shown, with the first of them."""
    total: Counter[str] = Counter()
    for manifest in map(line.corpus, corpora):
        total.update(manifest["skipped"])
        for why, count in manifest["skipped"].items():
            live.notice(f"skipped    {count} rows: {why}")
        for path, row, why in manifest["first_skipped"]:
            live.notice(f"           {path}:{row}: {why}" if row else f"           {path}: {why}")
    return total


def _at_fault(error: RegraftError) -> bool:
    """Whether the order itself is wrong, so that going on with it could not help."""
    return error.exit_code == 2 and not isinstance(error, Diverged) and not isinstance(error.__cause__, OSError)


def _say(line: Line, version: Version) -> None:
    from regraft.cli.judge import show_comparison

    show_comparison(line, version)
    out.print(f"\n{version.name} {version.id[:12]}  {version.message}")
