"""Claims: a method's promise, measured at equal budget on several seeds and recorded whichever way it goes.

A claim file, `claims/<name>.py`, holds `claim = Claim(...)`:

    claim = Claim(
        says="replay forgets less than plain fine-tuning",
        setting="prose, then source code; 1M parameters; 200 updates of 4096 tokens",
        arms={"naive": arm(share=0), "replay": arm(share=0.25), "replay of nothing": arm(share=0, sampler=replay())},
        tests=(Test("old loss", better="replay", than="naive", by=0.05),),
        null=("replay of nothing", "naive"),
    )

An arm is `(meter, seed) -> scores`; it hands the meter to `fit`, which reports what it spends. Arms are seeded, run on
one thread, and judged in pairs: the same seed in both arms of a test.

With gap_s the advantage of `better` on seed s and margin_s what the test asks for, a test is

    shown           mean(gap) > mean(margin), and on no seed is gap_s < min(0, margin_s)
    not shown       mean(gap) <= mean(margin), and either the upper bound of gap - margin (95%, one-sided, paired t with
                    n - 1 degrees of freedom) is 0 or less, or mean(gap) < min(0, mean(margin))
    cannot tell     else, and always with fewer than three seeds

and a claim is shown if all of its tests are, not shown if any is not shown, else it cannot be told. An unequal budget
or a null arm that differs from its baseline makes the claim invalid: an error, and no record.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from regraft.core.errors import RegraftError, nearest
from regraft.evidence.cards import OURS, Code, Standing, Tree, code, read_record, standing, trees
from regraft.evidence.compared import reach
from regraft.evidence.running import Notes, in_processes

Unit: TypeAlias = Literal["rows", "tokens", "updates", "forwards", "written", "none"]
COUNTS = ("rows", "tokens", "updates", "forwards", "written")
ENOUGH_SEEDS = 3
CONFIDENCE = 0.90
"""Of the two-sided interval: each of its bounds holds with 95%."""


class InvalidClaim(RegraftError):
    """The measurement says nothing: budgets differ, the null arm is not null, or a score is missing or not a number."""


@dataclass
class Meter:
    """What one arm spends on one seed. The engine reports into it; arms only hand it on.

    `written`: tokens that models wrote, wherever the arm let one write.
    """

    rows: int = 0
    tokens: int = 0
    updates: int = 0
    forwards: int = 0
    written: int = 0
    seconds: float = 0.0

    def add(self, *, rows: int = 0, tokens: int = 0, updates: int = 0, forwards: int = 0) -> None:
        self.rows += rows
        self.tokens += tokens
        self.updates += updates
        self.forwards += forwards

    def add_written(self, tokens: int) -> None:
        self.written += tokens

    @contextmanager
    def counting(self) -> Iterator[Meter]:
        """Counts the seconds of the block, and what models write in it."""
        from regraft.numerics.rollout import SPENDING

        began, token = time.perf_counter(), SPENDING.set(self.add_written)
        try:
            yield self
        finally:
            SPENDING.reset(token)
            self.seconds += time.perf_counter() - began

    def counts(self) -> dict[str, int]:
        return {count: getattr(self, count) for count in COUNTS}


Arm: TypeAlias = Callable[[Meter, int], Mapping[str, float]]


@dataclass(frozen=True)
class Test:
    """`better` beats `than` in `score` by a margin.

    The margin is `by`, in units of the score, plus `relative` times the score of `than`; a negative margin asks to be
    no worse than that. `at_most_ratio=r` asks that better <= r * than, for positive scores of which less is better.
    """

    __test__: ClassVar[bool] = False  # or pytest takes the class for a test

    score: str
    better: str
    than: str
    by: float = 0.0
    lower_is_better: bool = True
    relative: float = 0.0
    at_most_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.at_most_ratio is not None and (self.by or self.relative or not self.lower_is_better):
            raise RegraftError(f"at_most_ratio of {self} stands alone, for a score of which less is better")

    def __str__(self) -> str:
        return f"the test {self.score!r} of {self.better!r} against {self.than!r}"

    def gap(self, better: float, than: float) -> float:
        """The advantage of `better`, in units of the score."""
        return than - better if self.lower_is_better else better - than

    def margin(self, than: float) -> float:
        if self.at_most_ratio is not None:
            return (1 - self.at_most_ratio) * than
        return self.by + self.relative * abs(than)


@dataclass(frozen=True)
class Claim:
    """What a method promises and the experiment that can refute it.

    Args:
        says: the direction, one sentence.
        setting: data, model and lengths, for a reader.
        arms: by name.
        tests: the pass conditions; all must hold.
        budget: the count that must be equal over the arms on every seed, within one batch; "none" where no arm trains.
        unequal: arms that spend another budget, each with the reason.
        null: (an arm with the method at zero strength, its baseline): their scores must be equal exactly.
        seeds: judged on these.
        calibrated_on: margins and knobs were chosen on these; none may be among `seeds`.
    """

    says: str
    setting: str
    arms: Mapping[str, Arm] = field(repr=False)
    tests: tuple[Test, ...]
    budget: Unit = "tokens"
    unequal: Mapping[str, str] = field(default_factory=dict)
    null: tuple[str, str] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    calibrated_on: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        named = [a for t in self.tests for a in (t.better, t.than)] + [*self.unequal, *(self.null or ())]
        if missing := [a for a in named if a not in self.arms]:
            raise RegraftError(f"the claim has no arm {missing[0]!r}; it has {list(self.arms)}")
        if not self.tests:
            raise RegraftError("the claim has no test")
        if self.budget not in (*COUNTS, "none"):
            raise RegraftError(f"no budget {self.budget!r}", do=f"Use one of {', '.join(COUNTS)}, none")
        if set(self.unequal) == set(self.arms):
            raise RegraftError(
                "every arm is exempt from the budget", do="Leave one, to which `unequal` is the exception"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RegraftError(f"seeds {list(self.seeds)}: at least one, and none twice")
        if both := set(self.seeds) & set(self.calibrated_on):
            raise RegraftError(f"seeds {sorted(both)} were used for calibration", do="Judge on other seeds")


@dataclass(frozen=True)
class Run:
    """One arm on one seed."""

    scores: Mapping[str, float]
    counts: Mapping[str, int]
    seconds: float


Runs: TypeAlias = Mapping[tuple[str, int], Run]


@dataclass(frozen=True)
class Judged:
    """One test with what was found.

    `gaps`: per seed, the advantage of `better`; `margins`: what was asked of it. `interval`: 90% of mean(gap - margin),
    two one-sided 95% bounds; None with one seed. `why` says more where it cannot be judged.
    """

    test: Test
    gaps: tuple[float, ...]
    margins: tuple[float, ...]
    interval: tuple[float, float] | None
    verdict: Standing
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        found = {"gaps": self.gaps, "gap": statistics.fmean(self.gaps), "margin": statistics.fmean(self.margins)}
        return {**asdict(self.test), **found, "interval": self.interval, "verdict": self.verdict, "why": self.why}


@dataclass(frozen=True)
class Record:
    """What was measured of a claim. `runs` holds every arm on every seed.

    `reproduced`: where the runs are of an earlier state of the code, the seeds on which this one gave the same scores.
    """

    name: str
    claim: Claim
    runs: Runs = field(repr=False)
    tests: tuple[Judged, ...]
    code: Code
    versions: Mapping[str, str]
    reproduced: tuple[int, ...] = ()

    @property
    def standing(self) -> Standing:
        verdicts = {t.verdict for t in self.tests}
        if "not shown" in verdicts:
            return "not shown"
        return "shown" if verdicts == {"shown"} else "cannot tell"

    def to_json(self) -> dict[str, Any]:
        of = {arm: [self.runs[arm, s] for s in self.claim.seeds] for arm in self.claim.arms}
        null = self.claim.null
        return {
            "says": self.claim.says,
            "setting": self.claim.setting,
            "seeds": self.claim.seeds,
            "calibrated_on": self.claim.calibrated_on,
            "scores": {arm: {s: [r.scores[s] for r in runs] for s in runs[0].scores} for arm, runs in of.items()},
            "budget": self.claim.budget,
            "unequal": dict(self.claim.unequal),
            "counts": {
                arm: {c: [r.counts[c] for r in runs] for c in COUNTS if c in runs[0].counts} for arm, runs in of.items()
            },
            "tests": [t.to_json() for t in self.tests],
            "null": null and {"arm": null[0], "baseline": null[1], "equal": True},
            "standing": self.standing,
            "reproduced": self.reproduced,
            "seconds": {arm: statistics.fmean(r.seconds for r in runs) for arm, runs in of.items()},
            "code": {"hash": self.code.hash, "files": dict(self.code.files)},
            "versions": dict(self.versions),
            "threads": 1,
        }


def renew(tree: Tree = OURS) -> list[str]:
    """Names the files of each record as they are where they still say what was measured; returns which were renewed.

    A changed word or line break makes nothing stale, but everybody who asks has to read the code to see that.
    """
    renewed = []
    for name in dict.fromkeys(path.stem for _, path in tree.methods()):
        record = read_record(name, tree)
        now = None if record is None else code(name, tree)
        if record and now and now.hash == record["code"]["hash"] and now.files != record["code"]["files"]:
            record["code"]["files"] = dict(now.files)
            _write(tree.record(name), canonical(record))
            renewed.append(name)
    return renewed


def canonical(value: Any) -> str:
    """JSON with sorted keys and floats to 6 significant digits: equal values, equal bytes."""
    return json.dumps(_rounded(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


# --- judging --------------------------------------------------------------------------------------------------------


def judge(claim: Claim, runs: Runs) -> tuple[Judged, ...]:
    """The verdict on every test.

    Raises:
        InvalidClaim: the runs cannot be compared.
    """
    _check_scores(claim, runs)
    _check_budget(claim, runs)
    _check_null(claim, runs)
    return tuple(
        _judge(t, *([runs[arm, s].scores[t.score] for s in claim.seeds] for arm in (t.better, t.than)))
        for t in claim.tests
    )


def _judge(test: Test, better: list[float], than: list[float]) -> Judged:
    gaps = tuple(map(test.gap, better, than))
    margins = tuple(map(test.margin, than))
    beyond = [g - m for g, m in zip(gaps, margins, strict=True)]
    interval = _interval(beyond)
    gap, margin = statistics.fmean(gaps), statistics.fmean(margins)
    reversed_once = any(g < min(0.0, m) for g, m in zip(gaps, margins, strict=True))

    def found(verdict: Standing, why: str = "") -> Judged:
        return Judged(test, gaps, margins, interval, verdict, why)

    if test.at_most_ratio is not None and min(than) <= 0:
        return found("cannot tell", f"no ratio to {test.than!r}, whose {test.score} is not positive on every seed")
    if interval is None or len(gaps) < ENOUGH_SEEDS:
        return found("cannot tell", f"fewer than {ENOUGH_SEEDS} seeds")
    if statistics.fmean(beyond) > 0:
        return found("cannot tell", "the direction is reversed on a seed") if reversed_once else found("shown")
    if interval[1] <= 0 or gap < min(0.0, margin):
        return found("not shown")
    return found("cannot tell", "short of the margin, which the interval includes")


def _interval(values: list[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    mean, half = statistics.fmean(values), reach(values, CONFIDENCE)
    return mean - half, mean + half


def _check_scores(claim: Claim, runs: Runs) -> None:
    for (arm, seed), run in runs.items():
        asked = {t.score for t in claim.tests if arm in (t.better, t.than)} | set(runs[arm, claim.seeds[0]].scores)
        if missing := sorted(asked - set(run.scores)):
            raise InvalidClaim(f"arm {arm!r} gave no {missing[0]!r} on seed {seed}; it gave {sorted(run.scores)}")
        if odd := [s for s, v in run.scores.items() if not math.isfinite(v)]:
            raise InvalidClaim(f"arm {arm!r} scored {odd[0]!r} = {run.scores[odd[0]]} on seed {seed}")


def _check_budget(claim: Claim, runs: Runs) -> None:
    arms = [a for a in claim.arms if a not in claim.unequal]
    if claim.budget == "none":
        if busy := [a for a in claim.arms for s in claim.seeds if runs[a, s].counts["updates"]]:
            raise InvalidClaim(f"the budget is none, but arm {busy[0]!r} trained", do="Name the count to be equal")
        return
    for seed in claim.seeds:
        spent = {a: runs[a, seed].counts for a in arms}
        if idle := [a for a in arms if not spent[a][claim.budget]]:
            raise InvalidClaim(
                f"arm {idle[0]!r} counted no {claim.budget} on seed {seed}", do="Hand its meter to `fit`"
            )
        least, most = (end(arms, key=lambda a: spent[a][claim.budget]) for end in (min, max))
        batch = max((math.ceil(c[claim.budget] / c["updates"]) for c in spent.values() if c["updates"]), default=0)
        if spent[most][claim.budget] - spent[least][claim.budget] > batch:
            raise InvalidClaim(
                f"unequal budget on seed {seed}: arm {most!r} spent {spent[most][claim.budget]} {claim.budget}, "
                f"arm {least!r} {spent[least][claim.budget]}, more than one batch ({batch}) apart",
                do="Make them equal, or name the arm in `unequal` with the reason",
            )


def _check_null(claim: Claim, runs: Runs) -> None:
    if claim.null is None:
        return
    null, baseline = claim.null
    for seed in claim.seeds:
        ours, theirs = runs[null, seed].scores, runs[baseline, seed].scores
        for score in ours.keys() | theirs.keys():
            if ours.get(score) != theirs.get(score):
                raise InvalidClaim(
                    f"the null arm {null!r} is not null: on seed {seed} its {score!r} is {ours.get(score)!r}, "
                    f"that of {baseline!r} {theirs.get(score)!r}"
                )


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(
    name: str,
    *,
    seeds: Sequence[int] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    jobs: int = 1,
    root: Path | None = None,
    scratch: Path | None = None,
) -> Record:
    """Runs every arm of a claim on every seed, judges, and writes `evidence/records/<name>.json`.

    What is done is kept in `scratch` (by default below the user's cache folder) until the record is written, so that an
    interrupted measurement goes on where it stopped, unless any code of the package changed meanwhile.

    A stale claim is first run on one seed. If every arm gives the scores and counts of the record, to all of its
    digits, what the code computes is taken to be what it was: the record is kept, and says so.

    Args:
        seeds: instead of the claim's own.
        progress: told (runs done, runs in all, the run that ended) after each.
        jobs: processes at once, of one thread each; the scores do not depend on it.
        root: the package folder to look in, instead of ours and those installed.

    Raises:
        InvalidClaim: arms cannot be compared. An earlier record is withdrawn.
        RegraftError: no such claim, or it cannot be run.
    """
    tree = _tree(name, root)
    _loaded.cache_clear()  # the file may have changed since
    claim = _loaded(name, tree)
    if seeds is not None:
        claim = replace(claim, seeds=tuple(seeds))
    before = code(name, tree)
    notes = _notes(scratch or _cache(), name, _everything(tree))
    wanted = [(arm, seed) for seed in claim.seeds for arm in claim.arms]
    known = notes.read()
    runs = {w: Run(**known[repr(w)]) for w in wanted if repr(w) in known}
    reproduced: tuple[int, ...] = ()
    earlier = _earlier(name, tree, claim, before)
    for seeds_now in (claim.seeds[:1], claim.seeds[1:]) if earlier else (claim.seeds,):
        left = [(arm, seed) for arm, seed in wanted if seed in seeds_now and (arm, seed) not in runs]
        for (arm, seed), run in in_processes(partial(_work, name, tree), left, jobs, repr(name)):
            runs[arm, seed] = run
            notes.write(repr((arm, seed)), asdict(run))
            if progress:
                progress(sum(w in runs for w in wanted), len(wanted), f"{arm}, seed {seed}")
        if earlier and all(_same(runs[w], earlier[w]) for w in wanted if w[1] in claim.seeds[:1]):
            runs, reproduced = earlier, claim.seeds[:1]
            break
    if code(name, tree).hash != before.hash:
        raise RegraftError(f"the code of {name!r} changed while it was measured", do="Measure it again")
    try:
        record = Record(name, claim, runs, judge(claim, {w: runs[w] for w in wanted}), before, _versions(), reproduced)
    except InvalidClaim as error:
        tree.record(name).unlink(missing_ok=True)
        notes.remove()
        raise InvalidClaim(error.what, where=tree.claim(name), do=error.do) from None
    _write(tree.record(name), canonical(record.to_json()))
    notes.remove()
    return record


def _earlier(name: str, tree: Tree, claim: Claim, now: Code) -> dict[tuple[str, int], Run]:
    """The runs of the claim's record, if it is of another state of the code, and of the same arms and seeds."""
    try:
        said = read_record(name, tree)
        if said is None or said["code"]["hash"] == now.hash:
            return {}
        if tuple(said["seeds"]) != claim.seeds or said["scores"].keys() != claim.arms.keys():
            return {}
        return {
            (arm, seed): Run(
                {score: values[i] for score, values in said["scores"][arm].items()},
                {count: values[i] for count, values in said["counts"][arm].items()},
                said["seconds"][arm],
            )
            for arm in claim.arms
            for i, seed in enumerate(claim.seeds)
        }
    except (RegraftError, KeyError, TypeError, AttributeError, IndexError):
        return {}  # a damaged record is measured again


def _same(run: Run, recorded: Run) -> bool:
    counts = {count: run.counts[count] for count in recorded.counts}  # older records do not have all
    return _rounded(run.scores) == dict(recorded.scores) and counts == dict(recorded.counts)


def stale_or_unmeasured(root: Path | None = None) -> list[str]:
    """The names of all claims that have no evidence for the code as it is now."""
    return [path.stem for tree in trees(root) for path in tree.claims() if _unsettled(path.stem, tree)]


def _unsettled(name: str, tree: Tree) -> bool:
    try:
        return standing(name, tree) in ("stale", "unmeasured")
    except RegraftError:
        # A damaged record is mended by measuring again.
        return True


def load(name: str, tree: Tree = OURS) -> Claim:
    """The claim of a claim file, which is run."""
    import importlib.util

    path = tree.claim(name)
    spec = importlib.util.spec_from_file_location(f"{tree.package}.claims.{name}", path)
    if spec is None or spec.loader is None:
        raise RegraftError("not a Python file", where=path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except RegraftError:
        raise
    except SyntaxError as error:
        raise RegraftError(f"not Python: {error.msg}", where=f"{path}:{error.lineno}") from None
    except Exception as error:
        raise RegraftError(f"the claim cannot be read: {type(error).__name__}: {error}", where=path) from error
    claim = vars(module).get("claim")
    if not isinstance(claim, Claim):
        raise RegraftError("defines no `claim = Claim(...)`", where=path)
    return claim


def _tree(name: str, root: Path | None) -> Tree:
    known = [(tree, path.stem) for tree in trees(root) for path in tree.claims()]
    for tree, stem in known:
        if stem == name:
            return tree
    hint = nearest(name, [stem for _, stem in known])
    raise RegraftError(f"no claim named {name!r}{hint}", do="A claim is a file claims/<name>.py")


def _work(name: str, tree: Tree, wanted: tuple[str, int]) -> Run:
    return _run(_loaded(name, tree), *wanted, tree.claim(name))


@lru_cache(maxsize=1)
def _loaded(name: str, tree: Tree) -> Claim:
    return load(name, tree)


def _run(claim: Claim, arm: str, seed: int, path: Path) -> Run:
    import numpy as np
    import torch

    # Arms have dice of their own; those that everybody shares are set too, so that no arm hears which ran before it.
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    meter = Meter()
    try:
        with meter.counting():
            scores = {score: float(value) for score, value in claim.arms[arm](meter, seed).items()}
    except Exception as error:
        what = f"{error}" if isinstance(error, RegraftError) else f"{type(error).__name__}: {error}"
        raise RegraftError(f"arm {arm!r} failed on seed {seed}: {what}", where=path) from error
    return Run(scores, meter.counts(), meter.seconds)


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("torch", "transformers")}}


# --- what is kept ---------------------------------------------------------------------------------------------------


def _notes(folder: Path, name: str, state: str) -> Notes:
    """Of the runs that are done, for one state of the code; those of any other state are removed."""
    notes = Notes(folder / f"{name}-{state}.jsonl")
    for old in folder.glob(f"{name}-*.jsonl"):
        if old != notes.path:
            old.unlink(missing_ok=True)
    return notes


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regraft" / "claims"


def _everything(tree: Tree) -> str:
    """16 hex digits over all code that may move a score: runs of two states of the engine must not be compared."""
    digest = hashlib.sha256(json.dumps(_versions()).encode())
    for root in dict.fromkeys((tree.root, OURS.root)):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
