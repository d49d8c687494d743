from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.core.errors import RegraftError
from regraft.evidence.gate import Decision, Limits, Margin, Policy, check
from regraft.evidence.readings import Reading

Values = NDArray[np.float64]
FLIPS = Policy(suites={"*": Limits(negative_flips_at_most=0.01)})


def reading(values: Any, *, unit: str = "nats/token", suite: str = "old") -> Reading:
    values = np.asarray(values, dtype=float)
    ids = tuple(map(str, range(values.size)))
    return Reading(suite, "same items", unit, unit == "nats/token", ids, values, np.ones(values.size))


def judged(before: Any, after: Any, policy: Policy | None = None, *, unit: str = "nats/token", seed: int = 0) -> Any:
    sides = ({"old": reading(values, unit=unit)} for values in (before, after))
    return check(*sides, policy, seed=seed)


def losses(n: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).gamma(9, 0.3, n)


def broken(right: Values, share: float, rng: np.random.Generator) -> Values:
    """Each right item is broken with this chance."""
    return np.where(rng.random(right.size) < share, 0.0, right)


# What the gate promises, by simulation


def test_an_unchanged_model_is_not_rejected_more_often_than_stated() -> None:
    """Four suites, noisy re-evaluation, and limits of 0: the hardest case, in which the null holds with equality."""
    policy = Policy(suites={"*": Limits(worse_by_at_most=Margin(0.0))})
    rejected, accepted, runs = 0, 0, 100
    for run in range(runs):
        rng = np.random.default_rng(run)
        before, after = {}, {}
        for k in range(2):
            values = losses(60, seed=k)
            before[f"loss {k}"] = reading(values, suite=f"loss {k}")
            after[f"loss {k}"] = reading(values + 0.05 * rng.standard_t(3, 60), suite=f"loss {k}")
            chance = np.clip(np.random.default_rng(k).normal(0.6, 0.3, 50), 0, 1)
            for side in (before, after):
                right = (rng.random(50) < chance).astype(float)
                side[f"items {k}"] = reading(right, suite=f"items {k}", unit="correct")
        decision = check(before, after, policy, seed=run).decision
        rejected += decision is Decision.REJECT
        accepted += decision is Decision.ACCEPT
    assert rejected <= 11  # P(Binomial(100, 0.05) > 11) < 1%
    assert accepted <= 11


def test_an_unchanged_model_is_accepted_when_the_items_suffice() -> None:
    decisions = []
    for run in range(60):
        rng = np.random.default_rng(run)
        before = losses(400, seed=run)
        decisions.append(judged(before, before + 0.05 * rng.standard_t(3, 400), seed=run).decision)
    assert decisions.count(Decision.REJECT) == 0
    assert decisions.count(Decision.ACCEPT) >= 57


@pytest.mark.parametrize("policy", [Policy(), FLIPS])
def test_five_percent_of_items_broken(policy: Policy) -> None:
    """At n = 10 never accepted; at n = 2000 always rejected."""
    for run in range(200):
        rng = np.random.default_rng(run)
        few = np.ones(10)
        assert judged(few, broken(few, 0.05, rng), policy, unit="correct").decision is not Decision.ACCEPT
    for run in range(20):
        rng = np.random.default_rng(run)
        many = (rng.random(2000) < 0.9).astype(float)
        assert judged(many, broken(many, 0.05, rng), policy, unit="correct").decision is Decision.REJECT


@pytest.mark.parametrize("n", [300, 600])
@pytest.mark.parametrize("rate", [0.01, 0.02])
def test_items_harmed_to_the_limit_or_beyond_are_accepted_at_the_stated_rate(n: int, rate: float) -> None:
    runs = 300
    for policy in (Policy(), FLIPS):
        rng = np.random.default_rng(n)
        before = np.ones(n)
        accepted = sum(
            judged(before, broken(before, rate, rng), policy, unit="correct").decision is Decision.ACCEPT
            for _ in range(runs)
        )
        assert accepted <= 25  # P(Binomial(300, 0.05) > 25) < 1%


@pytest.mark.parametrize("tail", ["lognormal", "student"])
def test_losses_harmed_to_the_limit_with_heavy_tails_are_accepted_at_the_stated_rate(tail: str) -> None:
    accepted, rejected, runs, n = 0, 0, 300, 60
    policy = Policy(suites={"*": Limits(worse_by_at_most=Margin(0.05))})
    for run in range(runs):
        rng = np.random.default_rng(run)
        noise = rng.lognormal(0, 0.75, n) - np.exp(0.75**2 / 2) if tail == "lognormal" else rng.standard_t(3, n)
        before = losses(n, seed=run)
        decision = judged(before, before + 0.05 + 0.1 * noise, policy, seed=run).decision
        accepted += decision is Decision.ACCEPT
        rejected += decision is Decision.REJECT
    # No bound on a mean is exact for every distribution: the skewed one may exceed 5% by a little.
    assert accepted <= 30
    assert rejected <= 30


def test_a_model_harmed_well_beyond_the_limit_is_rejected() -> None:
    for run in range(20):
        rng = np.random.default_rng(run)
        before = losses(200, seed=run)
        verdict = judged(before, before * 1.03 + 0.05 * rng.standard_t(3, 200), seed=run)
        assert verdict.decision is Decision.REJECT


# Decisions


def test_zero_flips_at_one_percent_need_368_items_at_975() -> None:
    strict = replace(FLIPS, false_acceptance=0.025)
    verdict = judged(np.ones(100), np.ones(100), strict, unit="correct")
    assert verdict.decision is Decision.CANNOT_TELL
    assert verdict.exit_code == 3
    assert verdict.rules[0].more_items == 268
    assert "about 268 more items" in verdict.reasons[0]
    assert judged(np.ones(367), np.ones(367), strict, unit="correct").decision is Decision.CANNOT_TELL
    accepted = judged(np.ones(368), np.ones(368), strict, unit="correct")
    assert (accepted.decision, accepted.exit_code) == (Decision.ACCEPT, 0)


def test_identical_models() -> None:
    before = losses(30)
    assert judged(before, before).decision is Decision.ACCEPT
    few = judged(before[:29], before[:29])
    assert few.decision is Decision.CANNOT_TELL
    assert few.rules[0].more_items == 1
    for n, decision in [(1, Decision.CANNOT_TELL), (298, Decision.CANNOT_TELL), (299, Decision.ACCEPT)]:
        assert judged(np.ones(n), np.ones(n), unit="correct").decision is decision


def test_one_item_of_loss_cannot_tell() -> None:
    assert judged([2.0], [9.0]).decision is Decision.CANNOT_TELL


def test_the_same_difference_everywhere() -> None:
    before = losses(40)
    absolute = Policy(suites={"*": Limits(worse_by_at_most=Margin(0.05))})
    assert judged(before, before + 0.1, absolute).decision is Decision.REJECT
    assert judged(before, before + 0.01, absolute).decision is Decision.ACCEPT
    exactly = judged(np.full(40, 2.0), np.full(40, 2.25), Policy(suites={"*": Limits(worse_by_at_most=Margin(0.25))}))
    assert exactly.decision is Decision.CANNOT_TELL
    assert exactly.rules[0].more_items is None
    assert "too near the limit" in exactly.reasons[0]


def test_the_items_it_asks_for_would_tell() -> None:
    rng = np.random.default_rng(0)
    before = losses(60)
    noise = rng.normal(0, 0.2, 60)
    noise -= noise.mean()
    unsure = judged(before, before + noise)
    assert unsure.decision is Decision.CANNOT_TELL
    more = unsure.rules[0].more_items
    assert more is not None
    copies = -(-(60 + more) // 60)
    told = judged(np.tile(before, copies), np.tile(before + noise, copies))
    assert told.decision is Decision.ACCEPT


def test_higher_is_better_scores() -> None:
    before = losses(100)
    noise = np.random.default_rng(0).normal(0, 0.01, 100)
    assert judged(before, before * 0.9 + noise, unit="F1").decision is Decision.REJECT
    assert judged(before, before * 1.1 + noise, unit="F1").decision is Decision.ACCEPT


def test_a_share_of_a_mean_that_is_not_positive() -> None:
    verdict = judged(-losses(50), -losses(50), unit="log-likelihood")
    assert verdict.decision is Decision.CANNOT_TELL
    assert "give one in log-likelihood" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("gain", "decision"), [(0.3, Decision.ACCEPT), (0.0, Decision.REJECT), (0.2, Decision.CANNOT_TELL)]
)
@pytest.mark.parametrize("relative", [False, True])
def test_better_by_at_least(gain: float, decision: Decision, relative: bool) -> None:
    before = losses(100)
    amount = 0.2 / before.mean() if relative else 0.2
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    noise -= noise.mean()
    policy = Policy(suites={"old": Limits(better_by_at_least=Margin(amount, relative))})
    verdict = judged(before, before - gain + noise, policy)
    assert verdict.decision is decision
    assert verdict.rules[0].measured == pytest.approx(gain)
    assert verdict.rules[0].limit == pytest.approx(0.2)
    assert verdict.rules[0].low < gain < verdict.rules[0].high
    assert "better by" in verdict.reasons[0]


def test_better_by_at_least_on_items() -> None:
    before = np.zeros(400)
    before[:100] = 1
    after = before.copy()
    after[100:200] = 1
    policy = Policy(suites={"old": Limits(better_by_at_least=Margin(0.1))})
    assert judged(before, after, policy, unit="correct").decision is Decision.ACCEPT
    assert judged(before, before, policy, unit="correct").decision is Decision.REJECT


@pytest.mark.parametrize(
    ("value", "limits", "says"),
    [
        (0, Limits(worse_by_at_most=Margin(0.01)), "nothing can be lost"),
        (0, Limits(negative_flips_at_most=0.01), "nothing can flip"),
        (1, Limits(better_by_at_least=Margin(0.01)), "nothing can be gained"),
    ],
)
def test_a_suite_that_cannot_move_does_not_pass(value: int, limits: Limits, says: str) -> None:
    still = np.full(2000, value)
    verdict = judged(still, still, Policy(suites={"*": limits}), unit="correct")
    assert verdict.decision is Decision.CANNOT_TELL
    assert says in verdict.reasons[0]


def test_one_harm_rejects_whatever_the_other_suites_say() -> None:
    kept, lost, thin = losses(200), losses(200, 1), losses(5)
    before = {name: reading(v, suite=name) for name, v in (("kept", kept), ("lost", lost), ("thin", thin))}
    after = {name: reading(v, suite=name) for name, v in (("kept", kept), ("lost", lost + 0.5), ("thin", thin))}
    verdict = check(before, after)
    assert (verdict.decision, verdict.exit_code) == (Decision.REJECT, 1)
    assert [rule.decision for rule in verdict.rules] == [Decision.ACCEPT, Decision.REJECT, Decision.CANNOT_TELL]
    assert verdict.reasons[0].startswith("reject: lost: worse by 0.5")
    del before["lost"], after["lost"]
    assert check(before, after).decision is Decision.CANNOT_TELL


def test_what_was_not_measured_cannot_tell() -> None:
    values = losses(50)
    both = {"old": reading(values)}
    assert check(both, both).decision is Decision.ACCEPT
    for policy in (
        Policy(required=("odl",)),
        Policy(suites={**Policy().suites, "odl": Limits(worse_by_at_most=Margin(1))}),
    ):
        verdict = check(both, both, policy)
        assert verdict.decision is Decision.CANNOT_TELL
        assert "not measured; did you mean 'old'" in verdict.reasons[0]
    more = {**both, "new": reading(values, suite="new")}
    assert "measured only before" in check(more, both).reasons[0]
    assert "measured only after" in check(both, more).reasons[0]
    assert check({}, {}).decision is Decision.CANNOT_TELL
    assert check({}, {}).reasons == ("cannot tell: the policy sets no limit for any suite that was measured",)


def test_items_that_one_version_did_not_answer_cannot_tell() -> None:
    values = losses(50)
    verdict = judged(values, values[:49])
    assert verdict.decision is Decision.CANNOT_TELL
    assert "1 items were read in one version only" in verdict.reasons[0]


def test_suites_without_limits_are_listed() -> None:
    values = losses(50)
    both = {name: reading(values, suite=name) for name in ("a", "b")}
    verdict = check(both, both, Policy(suites={"a": Limits(worse_by_at_most=Margin(0.1))}))
    assert (verdict.decision, verdict.unjudged) == (Decision.ACCEPT, ("b",))
    assert check(both, both, FLIPS).unjudged == ("a", "b")
    assert check(both, both, FLIPS).decision is Decision.CANNOT_TELL


def test_flips_of_a_loss_are_refused_where_named() -> None:
    with pytest.raises(RegraftError, match="negative_flips_at_most on a suite in nats/token"):
        judged(losses(50), losses(50), Policy(suites={"old": Limits(negative_flips_at_most=0.01)}))


def test_deterministic_and_plain_data() -> None:
    before = losses(40)
    after = before + np.random.default_rng(0).normal(0, 0.1, 40)
    first, second = judged(before, after), judged(before, after)
    assert first == second
    plain = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert plain["decision"] == str(first.decision)
    assert plain["exit_code"] == first.exit_code
    assert plain["reasons"] == list(first.reasons)


# Policies


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        """
        suites:
          "*": {worse_by_at_most: 2%}
          new: {better_by_at_least: 0.1}
          quiz: {worse_by_at_most: 1e-2, negative_flips_at_most: 3%}
          extra: null
        required: [old]
        false_rejection_rate: 1%
        """
    )
    policy = Policy.load(path)
    assert policy.limits("other") == Limits(worse_by_at_most=Margin(0.02, relative=True))
    assert policy.limits("new") == Limits(better_by_at_least=Margin(0.1))
    assert policy.limits("quiz") == Limits(worse_by_at_most=Margin(0.01), negative_flips_at_most=0.03)
    assert policy.limits("extra") == Limits()
    assert (policy.required, policy.false_rejection_rate, policy.false_acceptance) == (("old",), 0.01, 0.05)


@pytest.mark.parametrize(
    ("name", "text"), [("p.yaml", ""), ("p.yaml", "{}"), ("p.json", "{}"), ("p.json", '{"suites": {}}')]
)
def test_an_empty_policy_is_the_default(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert Policy.load(tmp_path / name) == Policy()


def test_the_default_limits_can_be_taken_away() -> None:
    assert Policy.parse({"suites": {"*": None}}).limits("any") == Limits()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("suite: {}", "unknown key 'suite'; did you mean 'suites'"),
        ("suites: {old: {worse_by: 1%}}", "old: unknown key 'worse_by'; did you mean 'worse_by_at_most'"),
        ("suites: {old: {worse_by_at_most: much}}", "old.worse_by_at_most: 'much' is not an amount"),
        ("suites: {old: {worse_by_at_most: -1}}", "-1 is not an amount"),
        ("suites: {old: {worse_by_at_most: true}}", "True is not an amount"),
        ("suites: {old: {worse_by_at_most: .nan}}", "nan is not an amount"),
        ("suites: {old: {negative_flips_at_most: 0}}", "old: negative_flips_at_most of 0"),
        ("suites: {old: {negative_flips_at_most: 150%}}", "old: negative_flips_at_most of 1.5"),
        ("suites: {old: 1%}", "old: '1%' is not a table"),
        ("suites: [old]", "is not a table"),
        ("suites: {1: {}}", "unknown key 1"),
        ("suites: {old: {}, old: {}}", "'old' comes twice"),
        ("suites: {*: {}}", 'Write the key \\* in quotes: "\\*"'),
        ("suites: {old", "p.yaml:1: is not YAML"),
        ("{[a]: 1}", "p.yaml:1: is not YAML"),
        ("a\x00b", "p.yaml"),
        ("required: old", "'old' is not a list of suites"),
        ("false_rejection_rate: 0", "false_rejection_rate: 0 is not a rate of error"),
        ("false_acceptance: 70%", "false_acceptance: 0.7 is not a rate of error"),
        ("items_at_least: 1", "items_at_least: 1 items show no spread"),
        ("items_at_least: 2.5", "2.5 is not a whole number"),
        ("- a", "is not a table"),
    ],
)
def test_a_bad_policy_gives_one_line_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(RegraftError, match=says) as refused:
        Policy.load(path)
    assert str(path) in str(refused.value)
    assert refused.value.exit_code == 2


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    with pytest.raises(RegraftError, match="cannot be read"):
        Policy.load(tmp_path / "none.yaml")
    with pytest.raises(RegraftError, match="cannot be read"):
        Policy.load(tmp_path)
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RegraftError, match="not UTF-8"):
        Policy.load(tmp_path / "p.yaml")
    (tmp_path / "p.json").write_text('{"required": [],\n]')
    with pytest.raises(RegraftError, match=r"p\.json:2: is not JSON"):
        Policy.load(tmp_path / "p.json")
    (tmp_path / "p.json").write_text('{"required": [], "required": []}')
    with pytest.raises(RegraftError, match="'required' comes twice"):
        Policy.load(tmp_path / "p.json")
    (tmp_path / "p.json").write_text('{"false_acceptance": NaN}')
    with pytest.raises(RegraftError, match="not an amount"):
        Policy.load(tmp_path / "p.json")


def test_the_policy_in_the_docs_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    policy = Policy.load(tmp_path / "policy.yaml")
    assert policy.required == ("exam",)
    assert policy.suites["exam"].negative_flips_at_most == 0.03
