"""The gate: does a candidate keep within a policy's limits? Accept, reject, or cannot tell and how many items would.

Reject: the items show that a limit is exceeded. A version within every limit is rejected with chance at most
`false_rejection_rate`, over all rules together (Holm 1979).
Accept: the items show for every rule that its limit is kept (non-inferiority). A version beyond any limit is accepted
with chance at most `false_acceptance`; this needs no correction, as it would have to pass the rule that it breaks.
Otherwise it cannot tell: items too few to show harm do not show its absence.
Right or wrong items: exact at every n. Losses and scores: bootstrap, so at least `items_at_least` items.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from regraft.core.errors import RegraftError, nearest
from regraft.core.names import regular_file
from regraft.core.written import Repeated, from_json, from_yaml
from regraft.evidence.compare import cannot_gain, cannot_lose, dice, net_flips
from regraft.evidence.readings import Paired, Reading, pair
from regraft.numerics.paired import Estimate, NetRate, Rate, holm, items_needed, mean_difference

EVERY = "*"
"""The key of a policy for every suite that it does not name."""


class Decision(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    CANNOT_TELL = "cannot tell"

    @property
    def exit_code(self) -> int:
        return {Decision.ACCEPT: 0, Decision.REJECT: 1, Decision.CANNOT_TELL: 3}[self]


@dataclass(frozen=True)
class Margin:
    """`0.02`: in the unit of the suite. `"1%"`: of the mean before or, for right or wrong items, one point."""

    amount: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise RegraftError(f"a margin of {self}", do='Give 0 or more, such as 0.02 or "1%"')

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.relative else f"{self.amount:g}"


@dataclass(frozen=True)
class Limits:
    """What a suite must keep to; a limit that is None is not asked for.

    Attributes:
        worse_by_at_most: how far the mean may get worse.
        better_by_at_least: how far the mean must get better: for what the update was to learn.
        negative_flips_at_most: share of all items that may go from right to wrong; right or wrong items only.
    """

    worse_by_at_most: Margin | None = None
    better_by_at_least: Margin | None = None
    negative_flips_at_most: float | None = None

    def __post_init__(self) -> None:
        rate = self.negative_flips_at_most
        if rate is not None and not 0 < rate < 1:
            raise RegraftError(
                f"negative_flips_at_most of {rate:g}", do="Give a rate above 0: no number of items shows exactly 0"
            )

    @classmethod
    def parse(cls, given: object, *, where: str) -> Limits:
        """Limits as written in a policy file; None asks for nothing.

        Raises:
            RegraftError: an unknown key or an ill-typed value; names the key.
        """
        keys = _keys({} if given is None else given, [f.name for f in fields(cls)], where=where)
        margins: dict[str, Margin | None] = {}
        rate = None
        for key, value in keys.items():
            if value is None:
                continue
            amount, relative = _amount(value, where=f"{where}.{key}")
            if key == "negative_flips_at_most":
                rate = amount
            else:
                margins[key] = Margin(amount, relative)
        with _placed(where):
            return cls(**margins, negative_flips_at_most=rate)


@dataclass(frozen=True)
class Policy:
    """What a new version must keep to.

    Attributes:
        suites: limits by suite; `"*"` holds for every suite not named. A named suite's limits replace those of `"*"`.
            Without `"*"`, suites not named are not judged, and the verdict lists them.
        required: suites that must have been measured, as must those named in `suites`.
        false_rejection_rate: chance of rejecting a version that is within every limit.
        false_acceptance: chance of accepting a version that is beyond some limit.
        items_at_least: a loss or a score of fewer items is not judged.
    """

    suites: Mapping[str, Limits] = field(default_factory=lambda: {EVERY: Limits(worse_by_at_most=Margin(0.01, True))})
    required: tuple[str, ...] = ()
    false_rejection_rate: float = 0.05
    false_acceptance: float = 0.05
    items_at_least: int = 30

    def __post_init__(self) -> None:
        for name, rate in (
            ("false_rejection_rate", self.false_rejection_rate),
            ("false_acceptance", self.false_acceptance),
        ):
            if not 0 < rate < 0.5:
                raise RegraftError(f"{rate:g} is not a rate of error", where=name, do="Give a rate above 0, below 0.5")
        if self.items_at_least < 2:
            raise RegraftError(
                f"{self.items_at_least} items show no spread", where="items_at_least", do="Give 2 or more"
            )

    @classmethod
    def parse(cls, given: object, *, where: str = "policy") -> Policy:
        """A policy as written in a file. What is left out has its default; `"*": null` takes the default limits away.

        Raises:
            RegraftError: an unknown key (with the nearest name) or an ill-typed value; names the key.
        """
        found = _keys({} if given is None else given, [f.name for f in fields(cls)], where=where)
        knobs: dict[str, Any] = {
            key: _amount(found[key], where=f"{where}: {key}")[0]
            for key in ("false_rejection_rate", "false_acceptance")
            if key in found
        }
        if "items_at_least" in found:
            knobs["items_at_least"] = _whole(found["items_at_least"], where=f"{where}: items_at_least")
        if "required" in found:
            knobs["required"] = _names(found["required"], where=f"{where}: required")
        if "suites" in found:
            named = _keys(found["suites"] or {}, None, where=f"{where}: suites")
            own = {name: Limits.parse(limits, where=f"{where}: {name}") for name, limits in named.items()}
            knobs["suites"] = {**cls().suites, **own}
        with _placed(where):
            return cls(**knobs)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """A policy from a YAML or JSON file.

        Raises:
            RegraftError: the file cannot be read, repeats a key, or is not a policy; names the file and the key.
        """
        path = Path(path)
        regular_file(path)
        try:
            text = path.read_text(encoding="utf-8")
            given = from_json(text) if path.suffix == ".json" else from_yaml(text)
        except OSError as wrong:
            raise RegraftError(f"cannot be read ({wrong.strerror})", where=path) from None
        except UnicodeDecodeError:
            raise RegraftError("is not UTF-8", where=path) from None
        except json.JSONDecodeError as wrong:
            raise RegraftError(f"is not JSON: {wrong.msg}", where=f"{path}:{wrong.lineno}") from None
        except yaml.MarkedYAMLError as wrong:
            line = f":{wrong.problem_mark.line + 1}" if wrong.problem_mark else ""
            alias = wrong.context == "while scanning an alias"
            do = 'Write the key * in quotes: "*"' if alias else ""
            raise RegraftError(f"is not YAML: {wrong.problem}", where=f"{path}{line}", do=do) from None
        except (yaml.YAMLError, Repeated) as wrong:
            raise RegraftError(str(wrong), where=path) from None
        return cls.parse(given, where=str(path))

    def limits(self, suite: str) -> Limits:
        return self.suites.get(suite, self.suites.get(EVERY, Limits()))


@dataclass(frozen=True)
class RuleVerdict:
    """One limit of one suite.

    Attributes:
        measured, low, high: what was measured, with its bounds: `low` at the confidence a rejection asks for,
            `high` at that of an acceptance (the other way round for `better_by_at_least`); None where nothing was.
        limit: in the same unit; None where it could not be worked out.
        more_items: items needed beyond these to tell, if they show what these show; None where none are, or none help.
    """

    suite: str
    rule: str
    decision: Decision
    n: int
    measured: float | None
    low: float | None
    high: float | None
    limit: float | None
    more_items: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.decision}: {self.suite}: {self.reason}"


@dataclass(frozen=True)
class Verdict:
    """The gate's answer. `unjudged` lists suites that the policy sets no limit for."""

    decision: Decision
    rules: tuple[RuleVerdict, ...]
    unjudged: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 accept, 1 reject, 3 cannot tell."""
        return self.decision.exit_code

    @property
    def reasons(self) -> tuple[str, ...]:
        """One line a rule; first those that made the decision."""
        ordered = sorted(self.rules, key=lambda rule: rule.decision is not self.decision)
        return tuple(map(str, ordered)) or ("cannot tell: the policy sets no limit for any suite that was measured",)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; every number is finite."""
        return {**asdict(self), "exit_code": self.exit_code, "reasons": list(self.reasons)}


def check(
    before: Mapping[str, Reading], after: Mapping[str, Reading], policy: Policy | None = None, *, seed: int = 0
) -> Verdict:
    """Judges the version `after` against the version `before` by a policy (the default one if None).

    Raises:
        RegraftError: readings of one suite that do not compare, or a limit that its kind of suite cannot have.
    """
    policy = policy or Policy()
    named = [name for name in (*policy.suites, *policy.required) if name != EVERY]
    suites = dict.fromkeys([*before, *after, *named])
    judged = [name for name in suites if policy.limits(name) != Limits() or name in policy.required]
    questions = [q for name in judged for q in _questions(name, before, after, policy, seed)]
    asked = [q for q in questions if isinstance(q, _Question)]
    harm = iter(holm([q.estimate.p_above(q.limit) for q in asked]))
    rules = tuple(q if isinstance(q, RuleVerdict) else _decide(q, next(harm), len(asked), policy) for q in questions)
    found = {rule.decision for rule in rules} or {Decision.CANNOT_TELL}
    worst = next(d for d in (Decision.REJECT, Decision.CANNOT_TELL, Decision.ACCEPT) if d in found)
    ruled = {rule.suite for rule in rules}
    return Verdict(worst, rules, tuple(name for name in suites if name not in ruled))


@dataclass(frozen=True)
class _Question:
    """Is `estimate`, a measure of harm, at most `limit`? Shown as `sign * (estimate + shift)`."""

    suite: str
    rule: str
    unit: str
    estimate: Estimate
    limit: float
    shift: float = 0.0
    sign: int = 1

    def shown(self, harm: float) -> float:
        # + 0.0 turns a negative zero into zero.
        return self.sign * (harm + self.shift) + 0.0


def _questions(
    name: str, before: Mapping[str, Reading], after: Mapping[str, Reading], policy: Policy, seed: int
) -> Iterator[_Question | RuleVerdict]:
    if name not in before or name not in after:
        yield _unmeasured(name, before, after)
        return
    both, limits = pair(before[name], after[name]), policy.limits(name)
    unread = both.only_before + both.only_after
    if unread:
        reason = f"{unread} items were read in one version only: read both versions on all {len(both.before) + unread}"
        yield _blocked(name, "paired", len(both.before), reason)
        return
    if limits.worse_by_at_most is not None:
        yield _mean_question(both, "worse_by_at_most", limits.worse_by_at_most, policy, seed)
    if limits.better_by_at_least is not None:
        yield _mean_question(both, "better_by_at_least", limits.better_by_at_least, policy, seed)
    if limits.negative_flips_at_most is not None:
        yield from _flip_question(both, limits.negative_flips_at_most, named=name in policy.suites)


def _mean_question(both: Paired, rule: str, margin: Margin, policy: Policy, seed: int) -> _Question | RuleVerdict:
    was = both.before
    sign = 1 if rule == "worse_by_at_most" else -1
    n = int((was.weights > 0).sum())
    if was.right_or_wrong:
        if sign > 0 and cannot_lose(both):
            return _blocked(was.suite, rule, n, "nothing was right before, so nothing can be lost: take easier items")
        if sign < 0 and cannot_gain(both):
            return _blocked(was.suite, rule, n, "all was right before, so nothing can be gained: take harder items")
        _, net = net_flips(both)
        lost = NetRate(net.minus, net.plus, net.n)
        return _Question(was.suite, rule, was.unit, lost, sign * margin.amount, sign=sign)
    if n < policy.items_at_least:
        reason = f"{n} items are too few to bound a mean: {policy.items_at_least - n} more are needed"
        return _blocked(was.suite, rule, n, reason, more_items=policy.items_at_least - n)
    if margin.relative and was.mean <= 0:
        reason = f"{margin} of a mean of {was.mean:.4g} is no margin: give one in {was.unit}"
        return _blocked(was.suite, rule, n, reason)
    worse = (both.after.values - was.values) * (1 if was.lower_is_better else -1)
    amount = sign * margin.amount
    rng = dice(seed, "gate", was.suite, rule)
    if not margin.relative:
        return _Question(was.suite, rule, was.unit, mean_difference(worse, was.weights, rng=rng), amount, sign=sign)
    # A share of the mean before is itself uncertain: harm beyond it, item by item, is a mean like any other.
    beyond = mean_difference(worse - amount * was.values, was.weights, rng=rng)
    return _Question(was.suite, rule, was.unit, beyond, 0.0, shift=amount * was.mean, sign=sign)


def _flip_question(both: Paired, limit: float, *, named: bool) -> Iterator[_Question | RuleVerdict]:
    was, rule = both.before, "negative_flips_at_most"
    if not was.right_or_wrong:
        if named:
            do = 'Use worse_by_at_most; under "*" the limit holds for right or wrong items only'
            raise RegraftError(f"{rule} on a suite in {was.unit}", where=f"suite {was.suite}", do=do)
        return
    _, net = net_flips(both)
    if cannot_lose(both):
        yield _blocked(was.suite, rule, net.n, "nothing was right before, so nothing can flip: take easier items")
    else:
        yield _Question(was.suite, rule, "of the items", Rate(net.minus, net.n), limit)


def _unmeasured(name: str, before: Mapping[str, Reading], after: Mapping[str, Reading]) -> RuleVerdict:
    if name in before or name in after:
        reason = f"measured only {'before' if name in before else 'after'}: measure both with `regraft eval`"
    else:
        reason = f"not measured{nearest(name, {**before, **after})}"
    return _blocked(name, "measured", 0, reason)


def _blocked(suite: str, rule: str, n: int, reason: str, *, more_items: int | None = None) -> RuleVerdict:
    return RuleVerdict(suite, rule, Decision.CANNOT_TELL, n, None, None, None, None, more_items, reason)


def _decide(question: _Question, harm: float, family: int, policy: Policy) -> RuleVerdict:
    """`harm` is the p-value, adjusted over the `family`, against the limit being kept."""
    strictest = policy.false_rejection_rate / family

    def told(estimate: Estimate) -> bool:
        kept = estimate.p_below(question.limit) <= policy.false_acceptance
        return kept or estimate.p_above(question.limit) <= strictest

    estimate = question.estimate
    more = None
    if harm <= policy.false_rejection_rate:
        decision = Decision.REJECT
    elif estimate.p_below(question.limit) <= policy.false_acceptance:
        decision = Decision.ACCEPT
    else:
        decision = Decision.CANNOT_TELL
        needed = items_needed(estimate, told)
        more = None if needed is None else max(needed - estimate.n, 1)
    ends = (estimate.lower(1 - strictest), estimate.upper(1 - policy.false_acceptance))
    low, high = sorted(map(question.shown, ends))
    measured, limit = question.shown(estimate.estimate), question.shown(question.limit)
    reason = _reason(question, measured, (low, high), limit)
    if decision is Decision.CANNOT_TELL:
        reason += (
            "; too near the limit for any number of items"
            if more is None
            else f"; about {more} more items like these {estimate.n} would tell"
        )
    return RuleVerdict(question.suite, question.rule, decision, estimate.n, measured, low, high, limit, more, reason)


def _reason(question: _Question, measured: float, ends: tuple[float, float], limit: float) -> str:
    verb, bound = {
        "worse_by_at_most": ("worse by" if measured > 0 else "not worse:", "at most"),
        "better_by_at_least": ("better by", "at least"),
        "negative_flips_at_most": ("right to wrong:", "at most"),
    }[question.rule]
    if isinstance(question.estimate, Rate):
        return f"{verb} {measured:.2%} {question.unit} ({ends[0]:.2%} to {ends[1]:.2%}), {bound} {limit:.2%}"
    if isinstance(question.estimate, NetRate):
        low, high = (100 * end for end in ends)
        return f"{verb} {100 * measured:.2f} points ({low:.2f} to {high:.2f}), {bound} {100 * limit:.2f}"
    return f"{verb} {measured:.4g} {question.unit} ({ends[0]:.4g} to {ends[1]:.4g}), {bound} {limit:.4g}"


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Says in what file and key a value was refused."""
    try:
        yield
    except RegraftError as wrong:
        place = where if wrong.where is None else f"{where}: {wrong.where}"
        raise RegraftError(wrong.what, where=place, do=wrong.do) from None


def _keys(given: object, known: Iterable[str] | None, *, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise RegraftError(f"{given!r} is not a table of keys", where=where)
    for key in given:
        if not isinstance(key, str) or (known is not None and key not in known):
            hint = nearest(str(key), known or ())
            raise RegraftError(f"unknown key {key!r}{hint}", where=where, do=f"Keys: {', '.join(known or ['a name'])}")
    return dict(given)


def _amount(given: object, *, where: str) -> tuple[float, bool]:
    """A number, and whether it was written as a percentage."""
    number: float | None = None
    percent = isinstance(given, str) and given.strip().endswith("%")
    if isinstance(given, str):
        try:
            number = float(given.strip().removesuffix("%")) / (100 if percent else 1)
        except ValueError:
            number = None
    elif isinstance(given, int | float) and not isinstance(given, bool):
        number = float(given)
    if number is None or not math.isfinite(number) or number < 0:
        raise RegraftError(f"{given!r} is not an amount", where=where, do='Give 0 or more, such as 0.02 or "1%"')
    return number, percent


def _whole(given: object, *, where: str) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise RegraftError(f"{given!r} is not a whole number", where=where)
    return given


def _names(given: object, *, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise RegraftError(f"{given!r} is not a list of suites", where=where)
    return tuple(given)
