"""The claims harness: what counts as shown, what makes a claim invalid, what survives an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.evidence import claims
from regraft.evidence.cards import cards, standing, tree_at
from regraft.evidence.claims import Claim, InvalidClaim, Judged, Meter, Run, Test, judge, measure, stale_or_unmeasured

SEEDS = (0, 1, 2)


def no_arm(meter: Meter, seed: int) -> Mapping[str, float]:
    raise AssertionError("not run in these tests")


def spent(tokens: int, updates: int = 10) -> dict[str, int]:
    return {"rows": tokens // 10, "tokens": tokens, "updates": updates, "forwards": 0}


def judged(test: Test, better: Sequence[float], than: Sequence[float]) -> Judged:
    seeds = tuple(range(len(better)))
    claim = Claim("it is better", "none", {"ours": no_arm, "plain": no_arm}, (test,), seeds=seeds)
    runs = {
        (arm, s): Run({test.score: scores[s]}, spent(100), 0.0)
        for arm, scores in (("ours", better), ("plain", than))
        for s in seeds
    }
    [found] = judge(claim, runs)
    return found


def lower(**knobs: float) -> Test:
    return Test("loss", better="ours", than="plain", **knobs)


def higher(**knobs: float) -> Test:
    return Test("accuracy", better="ours", than="plain", lower_is_better=False, **knobs)


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "better", "than", "verdict"),
    [
        (lower(), [1.0, 1.0, 1.0], [2.0, 2.0, 1.1], "shown"),
        (lower(), [1.0, 1.0, 1.2], [2.0, 2.0, 1.1], "cannot tell"),  # reversed on one seed
        (lower(), [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "not shown"),  # equal is not better
        (lower(), [2.0, 2.0, 1.0], [1.9, 1.9, 1.1], "not shown"),  # reversed on average
        (higher(), [0.8, 0.9, 0.7], [0.7, 0.8, 0.6], "shown"),
        (higher(), [0.6, 0.6, 0.7], [0.7, 0.8, 0.6], "not shown"),
        (lower(by=0.5), [1.0, 1.0, 1.0], [1.6, 1.6, 1.4], "shown"),
        (lower(by=0.5), [1.0, 1.0, 1.0], [1.1, 1.1, 1.2], "not shown"),  # the interval excludes the margin
        (lower(by=0.5), [1.0, 1.0, 1.0], [1.1, 1.9, 1.2], "cannot tell"),  # the interval includes it
        (higher(by=-0.02), [0.89, 0.9, 0.9], [0.9, 0.9, 0.9], "shown"),  # no worse than
        (higher(by=-0.02), [0.87, 0.92, 0.92], [0.9, 0.9, 0.9], "cannot tell"),
        (lower(relative=0.1), [1.7, 1.7, 1.7], [2.0, 2.0, 2.0], "shown"),
        (lower(relative=0.1), [1.9, 1.9, 1.9], [2.0, 2.0, 2.0], "not shown"),
        (lower(at_most_ratio=0.5), [0.1, 0.2, 0.3], [0.4, 0.5, 0.61], "shown"),
        (lower(at_most_ratio=0.5), [0.3, 0.3, 0.3], [0.4, 0.4, 0.41], "not shown"),
        (lower(at_most_ratio=1.02), [2.03, 2.03, 2.03], [2.0, 2.0, 2.0], "shown"),
        (lower(at_most_ratio=1.02), [2.05, 2.05, 2.05], [2.0, 2.0, 2.0], "not shown"),
        (lower(at_most_ratio=0.5), [-0.3, 0.1, 0.1], [0.0, 0.4, 0.4], "cannot tell"),  # no ratio to zero
        (lower(), [1.0, 1.0], [2.0, 2.0], "cannot tell"),  # too few seeds
        (lower(), [1.0], [2.0], "cannot tell"),
    ],
)
def test_verdicts(test: Test, better: list[float], than: list[float], verdict: str) -> None:
    assert judged(test, better, than).verdict == verdict


def test_the_interval_is_students() -> None:
    found = judged(lower(by=0.5), [1.0, 1.0, 1.0], [2.0, 3.0, 4.0])
    assert found.gaps == (1.0, 2.0, 3.0)
    # t at 95% with 2 degrees of freedom is 2.91999.
    reach = 2.9199856 / math.sqrt(3)
    assert found.interval == pytest.approx((1.5 - reach, 1.5 + reach))
    assert judged(lower(), [1.0], [2.0]).interval is None


def test_a_claim_is_shown_only_if_every_test_is(tmp_path: Path) -> None:
    for second, standing_of in (("1.0", "shown"), ("1.8", "not shown")):
        claim_file(tmp_path, tests=f'(Test("loss", "ours", "plain"), Test("loss", "ours", "plain", by={second} - 0.5))')
        assert measure("better", root=tmp_path, scratch=tmp_path).standing == standing_of


# --- what makes a claim invalid ---------------------------------------------------------------------------------------


def compared(tokens: Mapping[str, int], **knobs: object) -> tuple[Judged, ...]:
    test = Test("loss", better="ours", than="plain")
    arms = dict.fromkeys(tokens, no_arm)
    claim = Claim("it is better", "none", arms, (test,), **knobs)  # type: ignore[arg-type]
    runs = {(a, s): Run({"loss": 1.0}, spent(n, updates=10 if n else 0), 0.0) for a, n in tokens.items() for s in SEEDS}
    return judge(claim, runs)


def test_budgets_may_differ_by_one_batch_and_no_more() -> None:
    compared({"ours": 1000, "plain": 1100})
    with pytest.raises(InvalidClaim, match=r"arm 'plain' spent 1120 tokens, arm 'ours' 1000, .* one batch \(112\)"):
        compared({"ours": 1000, "plain": 1120})
    # However the engine reports, one batch is what one update took: a report for the whole run widens nothing.
    with pytest.raises(InvalidClaim, match="unequal budget on seed 0"):
        compared({"ours": 1000, "plain": 2000})


def test_an_arm_may_be_exempt_with_the_reason() -> None:
    compared({"ours": 1000, "plain": 1000, "union": 2000}, unequal={"union": "costs the sum"})
    with pytest.raises(InvalidClaim, match="'union'"):
        compared({"ours": 1000, "plain": 1000, "union": 2000})


def test_an_arm_that_counted_nothing_forgot_its_meter() -> None:
    with pytest.raises(InvalidClaim, match="arm 'ours' counted no tokens on seed 0"):
        compared({"ours": 0, "plain": 1000})
    compared({"ours": 0, "plain": 0}, budget="none")
    with pytest.raises(InvalidClaim, match="arm 'plain' trained"):
        compared({"ours": 0, "plain": 10}, budget="none")


def run_of(**scores: float) -> Run:
    return Run(scores, spent(100), 0.0)


def test_the_null_arm_must_equal_its_baseline_exactly() -> None:
    test = Test("loss", better="ours", than="plain")
    claim = Claim("x", "none", dict.fromkeys(("ours", "null", "plain"), no_arm), (test,), null=("null", "plain"))
    runs = {(arm, s): run_of(loss=1.0, other=2.0) for arm in claim.arms for s in SEEDS}
    judge(claim, runs)
    runs["null", 1] = run_of(loss=1.0, other=2.0 + 1e-15)
    with pytest.raises(InvalidClaim, match="the null arm 'null' is not null: on seed 1 its 'other'"):
        judge(claim, runs)


@pytest.mark.parametrize(
    ("scores", "says"),
    [({"losses": 1.0}, "arm 'ours' gave no 'loss' on seed 2"), ({"loss": math.nan}, "arm 'ours' scored 'loss' = nan")],
)
def test_a_score_that_is_missing_or_no_number(scores: dict[str, float], says: str) -> None:
    claim = Claim("x", "none", {"ours": no_arm, "plain": no_arm}, (Test("loss", better="ours", than="plain"),))
    runs = {(arm, s): run_of(loss=1.0) for arm in claim.arms for s in SEEDS}
    runs["ours", 2] = run_of(**scores)
    with pytest.raises(InvalidClaim, match=says):
        judge(claim, runs)


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"tests": ()}, "no test"),
        ({"tests": (Test("loss", better="hours", than="plain"),)}, "no arm 'hours'"),
        ({"null": ("ours", "nil")}, "no arm 'nil'"),
        ({"unequal": {"union": "costs more"}}, "no arm 'union'"),
        ({"unequal": {"ours": "a", "plain": "b"}}, "every arm is exempt"),
        ({"budget": "token"}, "no budget 'token'"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (0, 0)}, "none twice"),
        ({"seeds": (0, 100)}, r"\[100\] were used for calibration"),
    ],
)
def test_a_claim_that_cannot_be_meant(knobs: dict[str, object], says: str) -> None:
    made = {"tests": (Test("loss", better="ours", than="plain"),), **knobs}
    with pytest.raises(RegraftError, match=says):
        Claim("x", "none", {"ours": no_arm, "plain": no_arm}, **made)  # type: ignore[arg-type]


def test_a_ratio_stands_alone() -> None:
    for knobs in ({"by": 0.1}, {"relative": 0.1}, {"lower_is_better": False}):
        with pytest.raises(RegraftError, match="at_most_ratio"):
            Test("loss", better="a", than="b", at_most_ratio=0.5, **knobs)  # type: ignore[arg-type]


def test_the_meter_adds_up() -> None:
    meter = Meter()
    with meter.counting():
        meter.add(rows=2, tokens=20, updates=1)
        meter.add(rows=1, tokens=7, updates=1, forwards=3)
    assert meter.counts() == {"rows": 3, "tokens": 27, "updates": 2, "forwards": 3, "written": 0}
    assert meter.seconds > 0


# --- measuring --------------------------------------------------------------------------------------------------------

FILE = """
import torch
from pathlib import Path
from regraft.evidence.claims import Claim, Test

LOG = Path(__file__).parents[1] / "ran.txt"


def arm(rate):
    def run(meter, seed):
        with LOG.open("a") as file:
            file.write(f"{rate} {seed}\\n")
        STOP
        made = torch.Generator().manual_seed(seed)
        x = torch.randn(300, 300, generator=made)
        meter.add(rows=4, tokens=400, updates=2)
        own = float((x @ x).sigmoid().sum()) / 1e5
        return {"loss": own - rate + float(torch.rand(())), "gain": rate}
    return run


claim = Claim(
    says="more is better",
    setting="nothing in particular",
    arms={"plain": arm(0.0), "ours": arm(1.0), "null": arm(0.0)},
    tests=TESTS,
    null=("null", "plain"),
)
"""
ONE_TEST = '(Test("loss", better="ours", than="plain", by=0.5),)'


def claim_file(root: Path, *, tests: str = ONE_TEST, stop: str = "pass", text: str = FILE) -> Path:
    path = root / "claims" / "better.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace("TESTS", tests).replace("STOP", stop))
    return path


def ran(root: Path) -> list[str]:
    log = root / "ran.txt"
    return log.read_text().splitlines() if log.exists() else []


def test_the_record_says_what_was_measured(tmp_path: Path) -> None:
    claim_file(tmp_path)
    told: list[tuple[int, int, str]] = []
    threads = torch.get_num_threads()
    record = measure(
        "better", root=tmp_path, scratch=tmp_path, progress=lambda done, of, what: told.append((done, of, what))
    )
    assert torch.get_num_threads() == threads
    assert [t[:2] for t in told] == [(n, 9) for n in range(1, 10)]
    assert told[0][2] == "plain, seed 0"
    path = tree_at(tmp_path).record("better")
    said = json.loads(path.read_text())
    assert path.read_text() == claims.canonical(record.to_json())
    assert said["standing"] == record.standing == standing("better", tree_at(tmp_path)) == "shown"
    assert said["seeds"] == [0, 1, 2]
    assert said["counts"]["ours"]["tokens"] == [400, 400, 400]
    assert said["scores"]["null"] == said["scores"]["plain"]
    assert said["scores"]["ours"]["gain"] == [1.0, 1.0, 1.0]
    assert said["null"] == {"arm": "null", "baseline": "plain", "equal": True}
    assert said["seconds"].keys() == said["scores"].keys()
    assert said["versions"].keys() == {"python", "torch", "transformers"}
    assert str(tmp_path) not in path.read_text()
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_record_is_read_by_its_card(tmp_path: Path) -> None:
    claim_file(tmp_path, text=f'"""More is better."""\n{FILE}')
    measure("better", root=tmp_path, scratch=tmp_path)
    [card] = cards(tmp_path)
    assert (card.kind, card.standing) == ("finding", "shown")
    assert card.measured is not None
    assert card.measured["tests"][0]["gap"] == 1.0


def scores(root: Path) -> dict[str, Any]:
    said = json.loads(tree_at(root).record("better").read_text())
    return {key: said[key] for key in ("scores", "tests", "counts", "standing")}


def test_processes_at_once_give_the_same_scores(tmp_path: Path) -> None:
    claim_file(tmp_path)
    measure("better", root=tmp_path, scratch=tmp_path, jobs=1)
    alone = scores(tmp_path)
    measure("better", root=tmp_path, scratch=tmp_path, jobs=2)
    assert scores(tmp_path) == alone
    assert len(ran(tmp_path)) == 18


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        root.mkdir()
    claim_file(whole)
    measure("better", root=whole, scratch=whole)
    claim_file(cut, stop="if len(LOG.read_text().splitlines()) == 5: raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        measure("better", root=cut, scratch=cut)
    assert not tree_at(cut).record("better").exists()
    # Killed in the middle of a line as well: of the four runs that were done, three are known.
    [notes] = cut.glob("better-*.jsonl")
    notes.write_text(notes.read_text().rstrip("\n")[:-10])
    measure("better", root=cut, scratch=cut)
    assert len(ran(cut)) == 5 + 9 - 3
    assert scores(cut) == scores(whole)


def test_what_is_done_is_not_used_for_other_code(tmp_path: Path) -> None:
    claim_file(tmp_path, stop="if len(LOG.read_text().splitlines()) == 5: raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        measure("better", root=tmp_path, scratch=tmp_path)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "fit.py").write_text("x = 1")
    measure("better", root=tmp_path, scratch=tmp_path)
    assert len(ran(tmp_path)) == 5 + 9


def test_code_that_computes_the_same_keeps_its_record(tmp_path: Path) -> None:
    path = claim_file(tmp_path)
    measure("better", root=tmp_path, scratch=tmp_path)
    before, whole = scores(tmp_path), len(ran(tmp_path))
    path.write_text(path.read_text().replace("made = torch", "dice = torch").replace("=made)", "=dice)"))
    assert standing("better", tree_at(tmp_path)) == "stale"
    record = measure("better", root=tmp_path, scratch=tmp_path)
    assert (record.reproduced, record.standing) == ((0,), "shown")
    assert len(ran(tmp_path)) == whole + 3  # one seed
    now = scores(tmp_path)
    assert [now[key] for key in ("scores", "counts")] == [before[key] for key in ("scores", "counts")]
    assert standing("better", tree_at(tmp_path)) == "shown"
    path.write_text(path.read_text().replace("1e5", "2e5"))
    record = measure("better", root=tmp_path, scratch=tmp_path)
    assert record.reproduced == ()
    assert len(ran(tmp_path)) == whole + 3 + 9
    assert scores(tmp_path) != before


def test_an_invalid_claim_withdraws_its_record(tmp_path: Path) -> None:
    claim_file(tmp_path)
    measure("better", root=tmp_path, scratch=tmp_path)
    path = claim_file(tmp_path, stop="meter.add(tokens=int(1000 * rate))")
    with pytest.raises(InvalidClaim, match="unequal budget") as caught:
        measure("better", root=tmp_path, scratch=tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert standing("better", tree_at(tmp_path)) == "unmeasured"
    assert not list(tmp_path.glob("*.jsonl"))


def test_code_that_changes_while_it_is_measured(tmp_path: Path) -> None:
    claim_file(tmp_path, stop='Path(__file__).write_text(Path(__file__).read_text() + "new = 1\\n")')
    with pytest.raises(RegraftError, match="changed while it was measured"):
        measure("better", root=tmp_path, scratch=tmp_path)
    assert not tree_at(tmp_path).record("better").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_arm_that_fails_is_named(tmp_path: Path, jobs: int) -> None:
    path = claim_file(tmp_path, stop='if seed == 1 and rate: raise ValueError("no such\\nthing")')
    with pytest.raises(RegraftError, match="arm 'ours' failed on seed 1: ValueError: no such thing") as caught:
        measure("better", root=tmp_path, scratch=tmp_path, jobs=jobs)
    assert str(caught.value).startswith(f"{path}: ")


def test_other_seeds_may_be_asked_for_but_not_those_of_the_calibration(tmp_path: Path) -> None:
    claim_file(tmp_path)
    assert measure("better", root=tmp_path, scratch=tmp_path, seeds=(7, 8)).standing == "cannot tell"
    with pytest.raises(RegraftError, match="calibration"):
        measure("better", root=tmp_path, scratch=tmp_path, seeds=(100,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claim = 1", "defines no `claim"),
        ("\nclaim =", "better.py:2: not Python"),
        ("import nowhere_at_all", "ModuleNotFoundError"),
        ("from regraft.evidence.claims import Test\nTest('a', 'b', 'c', by=1, at_most_ratio=2)", "stands alone"),
    ],
)
def test_a_claim_file_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    claim_file(tmp_path, text=text)
    with pytest.raises(RegraftError, match=says):
        measure("better", root=tmp_path, scratch=tmp_path)


def test_an_unknown_claim_gets_the_nearest(tmp_path: Path) -> None:
    claim_file(tmp_path)
    with pytest.raises(RegraftError, match="no claim named 'beter'; did you mean 'better'"):
        measure("beter", root=tmp_path, scratch=tmp_path)


def test_what_is_left_to_measure(tmp_path: Path) -> None:
    assert stale_or_unmeasured(tmp_path) == []
    path = claim_file(tmp_path)
    (path.parent / "_shared.py").write_text("x = 1")
    assert stale_or_unmeasured(tmp_path) == ["better"]
    measure("better", root=tmp_path, scratch=tmp_path)
    assert stale_or_unmeasured(tmp_path) == []
    text = path.read_text()
    path.write_text(f"{text}\nmore = 1\n")
    assert stale_or_unmeasured(tmp_path) == ["better"]
    path.write_text(text)
    tree_at(tmp_path).record("better").write_text("{")
    assert stale_or_unmeasured(tmp_path) == ["better"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1 / 3, "a": (1, True, None)}, '{\n "a": [\n  1,\n  true,\n  null\n ],\n "b": 0.333333\n}\n'),
        ([1234567.0, 1e-9, "ü"], '[\n 1234570.0,\n 1e-09,\n "ü"\n]\n'),
    ],
)
def test_canonical_json(value: object, text: str) -> None:
    assert claims.canonical(value) == text
