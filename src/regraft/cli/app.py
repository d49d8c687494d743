"""The commands and their options. What a command does is in the module of its group, imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from regraft.core.errors import RegraftError

app = typer.Typer(
    name="regraft",
    help="Keep trained models current: learn the new, keep the old, measure both, roll back.\n\n"
    "Exit codes: 0 done or accepted, 1 rejected by the gate, 2 bad input or usage, 3 cannot tell, 4 damaged store, "
    "130 interrupted (and resumable).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
study = typer.Typer(help="Try settings on short forks of a model.", no_args_is_help=True, rich_markup_mode=None)
bench = typer.Typer(
    help="Compare methods, each tuned among as many settings.", no_args_is_help=True, rich_markup_mode=None
)
claims = typer.Typer(help="The experiments behind the methods.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(claims, name="claims")
app.add_typer(study, name="study")
app.add_typer(bench, name="bench")

LinePath = Annotated[Path, typer.Argument(help="the line's folder", show_default=False)]
VersionRef = Annotated[str, typer.Argument(help="id, prefix, v3, a pointer such as released, head, latest")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: cuda where there is one, else cpu.")]
Trust = Annotated[bool, typer.Option(help="Run the Python files that the model brought, if it was adopted with them.")]
Normalised = Annotated[
    Literal["none", "tokens", "bytes"],
    typer.Option(help="none, tokens or bytes: what a choice's score is divided by, in every --suite."),
]
Stop = Annotated[str | None, typer.Option(help="Text that must follow a right answer, in every --suite.")]
By = Annotated[str, typer.Option(help="exact, number, or a .py file that defines reward(written, item).")]
Marker = Annotated[str | None, typer.Option(help="Text after which the answer stands.")]
Copies = Annotated[int, typer.Option(min=1, help="Answers that are written for each question.")]
Temperature = Annotated[float, typer.Option(min=0, help="Of the answers; 0: the likeliest alone.")]
AnswerTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens of an answer at most; none: 256, or half the context.")
]
AnswerStop = Annotated[list[str] | None, typer.Option(help="Text that ends an answer.")]
Chat = Annotated[bool, typer.Option(help="Put the prompts through the chat template.")]
Jobs = Annotated[int, typer.Option(min=1, help="Checkers of your own that run at once.")]
TRAINING, LINE, CATALOGUE = "Make a new version", "The line", "Methods and evidence"


def _version(show: bool) -> None:
    if show:
        from regraft import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=TRAINING)
def adopt(
    model: Annotated[str, typer.Argument(help="a Hugging Face folder, or a hub name", show_default=False)],
    line: LinePath,
    trust_remote_code: Annotated[bool, typer.Option(help="Keep and run the model's own Python files.")] = False,
) -> None:
    """Start a line from a model: its first version, without its history."""
    from regraft.cli.updates import adopt

    adopt(model, line, trust_remote_code)


@app.command(rich_help_panel=TRAINING)
def learn(
    target: Annotated[
        str, typer.Argument(help="a line, or a model folder (its line is made beside it)", show_default=False)
    ],
    data: Annotated[list[str] | None, typer.Option(help="New text: JSONL, Parquet, text, folders, datasets.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Text the model knew before the line began, to replay.")
    ] = None,
    suite: Annotated[list[Path] | None, typer.Option(help="Questions (JSONL) to measure before and after.")] = None,
    normalise: Normalised = "none",
    stop: Stop = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe file (YAML).")] = None,
    set: Annotated[list[str] | None, typer.Option(help="One knob of the recipe: key=value.")] = None,
    line: Annotated[Path | None, typer.Option(help="Where the line of a model folder is made.")] = None,
    base: Annotated[str, typer.Option(help="The version to begin from.")] = "head",
    message: Annotated[str, typer.Option("-m", "--message", help="One line for the log.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn; wins over the recipe's.")] = None,
    unprotected: Annotated[bool, typer.Option(help="Go on though there is no old text to replay.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Pass over bad rows, count and list them.")] = False,
    plan_only: Annotated[
        bool, typer.Option(help="Show the plan and stop; the line keeps the tokenised text until `gc`.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on with the unfinished run.")] = False,
    restart: Annotated[bool, typer.Option(help="Throw the unfinished run away.")] = False,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Between two checkpoints of the run.")] = 60.0,
    device: Device = "auto",
    trust_remote_code: Trust = False,
    parallel: Annotated[
        str | None, typer.Option(help="Under torchrun: ddp, or fsdp for models too large to train on one device.")
    ] = None,
    skills: Annotated[
        Path | None, typer.Option(help="Questions (JSONL) with `prompt`, `answer` and `tags`, to learn those skills.")
    ] = None,
    shown: Annotated[
        list[str] | None, typer.Option(help="With --skills: demonstrations (`prompt` and `completion`, or `messages`).")
    ] = None,
    preferred: Annotated[
        Path | None, typer.Option(help="With --skills: pairs of answers (JSONL): `prompt`, `chosen` and `rejected`.")
    ] = None,
    by: By = "exact",
    marker: Marker = None,
    copies: Copies = 8,
    answer_tokens: AnswerTokens = None,
    temperature: Temperature = 1.0,
    answer_stop: AnswerStop = None,
    chat: Chat = False,
    jobs: Jobs = 1,
) -> None:
    """Learn new text, or skills that are missing; keep the old, measure both, commit a version."""
    from regraft.cli import updates

    if skills is None and shown:
        raise RegraftError("demonstrations are of skills", where="--shown", do="Name the questions with --skills")
    if skills is None and preferred:
        raise RegraftError("pairs of answers are of skills", where="--preferred", do="Name the questions with --skills")
    if skills is not None and data:
        raise RegraftError("new text and skills are two updates", where="--data", do="Give --data or --skills")
    asked = None
    if skills is not None:
        ending = tuple(answer_stop or ())
        asked = updates.Skills(skills, by, marker, answer_tokens, copies, temperature, ending, chat, jobs, preferred)

    with updates.processes(parallel) as processes:
        request = updates.Request(
            target=target,
            data=data or shown or [],
            keep=keep or [],
            suites=[str(s) for s in suite or []],
            normalise=normalise,
            stop=stop,
            knobs=updates.knobs_from(recipe, set or [], seed, "learn" if asked is None else "practise"),
            line=line,
            base=base,
            message=message,
            unprotected=unprotected,
            skip_bad=skip_bad,
            device=device,
            trust_remote_code=trust_remote_code,
            checkpoint_seconds=checkpoint_seconds,
            skills=asked,
        )
        updates.learn(request, plan_only=plan_only, resume=resume, restart=restart, processes=processes)


@app.command(rich_help_panel=LINE)
def log(line: LinePath, events: Annotated[bool, typer.Option(help="Every move of every pointer.")] = False) -> None:
    """The versions of a line, newest first."""
    from regraft.cli.history import log

    log(line, events)


@app.command(rich_help_panel=LINE)
def show(
    line: LinePath,
    version: VersionRef = "head",
    rows: Annotated[int | None, typer.Option(min=1, help="List so many rows that touched it.")] = None,
    row: Annotated[str | None, typer.Option(help="Which versions this row (id or prefix) touched.")] = None,
) -> None:
    """One version: what made it, what was measured, which rows touched it."""
    from regraft.cli.history import show

    show(line, version, rows, row)


@app.command(rich_help_panel=LINE)
def promote(
    line: LinePath,
    version: VersionRef = "head",
    name: Annotated[str, typer.Option("--as", help="The pointer to move.")] = "released",
    policy: Annotated[Path | None, typer.Option(help="The gate's policy (YAML or JSON).")] = None,
    anyway: Annotated[bool, typer.Option(help="Though the gate does not accept it.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Point a name at a version that the gate accepts against what the name points at now."""
    from regraft.cli.judge import promote

    promote(line, version, name, policy, anyway, device, trust_remote_code)


@app.command(rich_help_panel=LINE)
def rollback(
    line: LinePath,
    to: VersionRef,
    name: Annotated[str, typer.Option("--as", help="The pointer to move back.")] = "head",
    why: Annotated[str, typer.Option(help="For the log.")] = "",
) -> None:
    """Go back to a version; nothing is lost, and the next update builds there."""
    from regraft.cli.history import rollback

    rollback(line, to, name, why)


@app.command(rich_help_panel=LINE)
def verify(line: LinePath) -> None:
    """Read every stored file and check that it is what was written."""
    from regraft.cli.history import verify

    verify(line)


@app.command(rich_help_panel=LINE)
def gc(
    line: LinePath,
    drop: Annotated[list[str] | None, typer.Option(help="Forget a version that nothing needs.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would go.")] = False,
) -> None:
    """Remove what no version, pointer or unfinished run needs."""
    from regraft.cli.history import gc

    gc(line, drop or [], dry_run)


@app.command(rich_help_panel=LINE)
def export(
    line: LinePath,
    folder: Annotated[Path, typer.Argument(help="the new folder")],
    version: VersionRef = "head",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
) -> None:
    """Write a plain Hugging Face folder that loads without regraft."""
    from regraft.cli.history import export

    export(line, folder, version, overwrite)


@app.command("eval", rich_help_panel=LINE)
def evaluate(
    line: LinePath,
    versions: Annotated[list[str] | None, typer.Argument(help="versions; none: head", show_default=False)] = None,
    suite: Annotated[list[Path] | None, typer.Option(help="Questions (JSONL) or documents: a suite each.")] = None,
    normalise: Normalised = "none",
    stop: Stop = None,
    skip_bad: Annotated[bool, typer.Option(help="Pass over bad rows, count and list them.")] = False,
    tasks: Annotated[str | None, typer.Option(help="Tasks of lm-evaluation-harness, with commas between.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first items of each task.")] = None,
    shots: Annotated[int | None, typer.Option(help="Solved examples before each question of a task.")] = None,
    metric: Annotated[str | None, typer.Option(help="What to read of each task, such as acc_norm.")] = None,
    chat: Annotated[bool, typer.Option(help="Put the tasks through the chat template.")] = False,
    task_folder: Annotated[Path | None, typer.Option(help="Take tasks from these files, which can run code.")] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Measure versions on suites of your own; `compare`, `check` and `promote` know the results then."""
    from regraft.cli.judge import evaluate
    from regraft.evidence.lm_eval import LmEvalTasks
    from regraft.recipes.readings import Suites

    if tasks is None and (limit, shots, metric, chat, task_folder) != (None, None, None, False, None):
        raise RegraftError("there is no task to set anything for", where="--limit, --shots, ...", do="Name it: --tasks")
    names = tuple(filter(None, (tasks or "").split(",")))
    folder = None if task_folder is None else str(task_folder)
    harness = None if tasks is None else LmEvalTasks(names, limit, shots, metric, chat, folder)
    suites = Suites(suite or [], normalise, stop, skip_bad, harness)
    evaluate(line, versions or ["head"], suites, json, device, trust_remote_code)


@app.command(rich_help_panel=LINE)
def diagnose(
    target: Annotated[str, typer.Argument(help="a line, a model folder or a hub name", show_default=False)],
    items: Annotated[Path, typer.Option(help="Questions (JSONL) with `prompt`, `answer` and `tags`: its skills.")],
    by: By = "exact",
    marker: Marker = None,
    copies: Copies = 8,
    answer_tokens: AnswerTokens = None,
    temperature: Temperature = 1.0,
    answer_stop: AnswerStop = None,
    chat: Chat = False,
    version: Annotated[str, typer.Option(help="The version of the line.")] = "head",
    seed: Annotated[int, typer.Option()] = 0,
    jobs: Jobs = 1,
    skip_bad: Annotated[bool, typer.Option(help="Pass over bad rows, count and list them.")] = False,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Which skills a model lacks, by answers that can be checked, and what would repair each."""
    from regraft.cli.diagnose import Asked, diagnose

    asked = Asked(
        target=target,
        items=items,
        version=version,
        by=by,
        marker=marker,
        copies=copies,
        tokens=answer_tokens,
        temperature=temperature,
        stop=tuple(answer_stop or ()),
        chat=chat,
        seed=seed,
        jobs=jobs,
        skip_bad=skip_bad,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    diagnose(asked, json=json)


@app.command(rich_help_panel=LINE)
def compare(
    line: LinePath,
    a: Annotated[str, typer.Argument(help="the version before")],
    b: Annotated[str, typer.Argument(help="the version after")] = "head",
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    alpha: Annotated[float, typer.Option(help="Error rate over all suites.")] = 0.05,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Two versions item by item: change with its interval, flips, what could have been seen."""
    from regraft.cli.judge import compare

    compare(line, a, b, alpha, json, device, trust_remote_code)


@app.command(rich_help_panel=LINE)
def check(
    line: LinePath,
    a: Annotated[str, typer.Argument(help="the version before")],
    b: Annotated[str, typer.Argument(help="the version after")] = "head",
    policy: Annotated[Path | None, typer.Option(help="The gate's policy (YAML or JSON).")] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """The gate: accept (0), reject (1), cannot tell (3)."""
    from regraft.cli.judge import check

    check(line, a, b, policy, json, device, trust_remote_code)


@app.command(rich_help_panel=LINE)
def report(
    line: LinePath,
    version: VersionRef = "head",
    format: Annotated[str, typer.Option(help="html, md or json.")] = "html",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file; md and json go to the screen.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The gate's policy (YAML or JSON).")] = None,
) -> None:
    """One self-contained page about an update."""
    from regraft.cli.judge import report

    report(line, version, format, output, policy)


@app.command(rich_help_panel=CATALOGUE)
def methods(
    name: Annotated[str | None, typer.Argument(help="one method's card", show_default=False)] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag, or with all of A,B.")] = None,
) -> None:
    """The methods: what each does, its paper, its knobs, what was measured."""
    from regraft.cli.catalogue import methods

    methods(name, json, tag)


@study.command("rewarming")
def study_rewarming(
    line: LinePath,
    data: Annotated[list[str], typer.Option(help="New text: JSONL, Parquet, text, folders, datasets.")],
    keep: Annotated[
        list[str] | None, typer.Option(help="Text the model knew before the line began, to measure the old side.")
    ] = None,
    base: Annotated[str, typer.Option(help="The version to fork.")] = "head",
    set: Annotated[
        list[str] | None, typer.Option(help="One knob (see `regraft methods rewarming`): key=value.")
    ] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """How long and how high to re-warm for this text: short forks compared, the line left as it is."""
    from regraft.cli.study import rewarming
    from regraft.cli.updates import set_knobs

    rewarming(line, data, keep or [], base, set_knobs(set or []), device, trust_remote_code, json)


@bench.command("continual")
def bench_continual(
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Strategies, a+b for two together, or Python files that define one; none: all."),
    ] = None,
    ground: Annotated[
        list[str] | None,
        typer.Option(
            help="classes, told, inputs, online, pretrained, images, text, few_shot, unbroken; none: the first four."
        ),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML file that names grounds of your own data.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds to judge on.")] = 5,
    settings: Annotated[int, typer.Option(min=1, help="Settings that each method tries on other streams.")] = 6,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the results are written; a stopped run goes on there.")] = Path(
        "bench-continual"
    ),
    hindsight: Annotated[
        bool, typer.Option(help="Judge every setting: how much better had they been chosen on the judged streams?")
    ] = False,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
) -> None:
    """Methods for streams of tasks: tuned on one stream, judged on another; a table and a figure."""
    from regraft.cli.bench import continual

    continual(methods or [], ground or [], recipe, seeds, settings, jobs, out, json, hindsight)


@claims.command("run")
def claims_run(
    names: Annotated[list[str] | None, typer.Argument(help="claims; none: the stale and unmeasured ones")] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """Measure claims and keep the figures, whichever way they fall."""
    from regraft.cli.catalogue import run_claims

    run_claims(names or [], jobs)


@app.command(rich_help_panel=CATALOGUE)
def demo(
    what: Annotated[Literal["text", "skills"], typer.Argument(help="new text, or skills that are missing")] = "text",
    folder: Annotated[
        Path | None, typer.Option(help="Where its line is made; none: regraft-demo, regraft-demo-skills.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """The main jobs, on text that every Python carries and on arithmetic: no download, a few minutes."""
    if what == "skills":
        from regraft.cli.demo_skills import demo_skills

        demo_skills(folder or Path("regraft-demo-skills"), seed)
    else:
        from regraft.cli.demo import demo

        demo(folder or Path("regraft-demo"), seed)
