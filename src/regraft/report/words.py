"""Numbers and verdicts in words, the same on the screen and in every report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from regraft.evidence.compare import Change, Comparison, Effect, Finding
from regraft.evidence.gate import Decision, Limits, Policy, Verdict
from regraft.evidence.readings import CORRECT
from regraft.parts.metrics.stability_gap import Gap

NEW, OLD, QUESTIONS = "new text", "old text", "questions"
_MOST_NAMED = 3


def value(number: float, unit: str) -> str:
    """A mean: a share of right answers in percent, else three decimals."""
    if unit == CORRECT:
        return f"{number:.1%}"
    return f"{number:.3f}" if abs(number) < 1000 else f"{number:.4g}"


def signed(number: float, unit: str) -> str:
    """A change in the unit of `value`, points for right answers, with a true minus."""
    text = f"{100 * number:+.1f}" if unit == CORRECT else f"{number:+.3f}"
    return text.replace("-", "−")


def change(effect: Effect, unit: str) -> str:
    """A change beside its size: +0.8% of the loss before, or +1.7 points."""
    if unit == CORRECT:
        return f"{signed(effect.change, unit)} points"
    if not effect.before:
        return signed(effect.change, unit)
    return f"{effect.change / abs(effect.before):+.1%}".replace("-", "−")


def interval(effect: Effect, unit: str) -> str:
    if effect.interval is None:
        return "unknown"
    return " to ".join(signed(end, unit) for end in effect.interval)


def flips(row: Change) -> str:
    return "" if row.flips is None else f"−{len(row.flips.negative)} +{len(row.flips.positive)}"


def smallest(row: Change) -> str:
    if row.smallest_detectable is None:
        return "unknown"
    return signed(row.smallest_detectable, row.unit).replace("+", "±")


def notes(row: Change) -> tuple[str, ...]:
    """What a reader must know of a change, and how the continuous companion of right or wrong items moved."""
    if row.companion is None:
        return row.notes
    also = row.companion
    moved = f"{value(also.before, '')} → {value(also.after, '')} ({signed(also.change, '')}, {interval(also, '')})"
    return (f"the margin behind right and wrong, on average: {moved}", *row.notes)


def gate(verdict: Verdict, suite: str) -> Decision | None:
    """What the gate says of one suite; None where the policy asks for nothing."""
    found = {rule.decision for rule in verdict.rules if rule.suite == suite}
    return next((decision for decision in _ORDER if decision in found), None)


def gate_line(verdict: Verdict) -> str:
    """The decision, and the rule that made it where it is not accepted."""
    if verdict.decision is Decision.ACCEPT:
        return f"gate: accept, {len(verdict.rules)} of {len(verdict.rules)} limits kept"
    deciding = [rule for rule in verdict.rules if rule.decision is verdict.decision]
    if not deciding:
        return f"gate: {verdict.reasons[0]}"
    more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
    return f"gate: {verdict.decision}: {deciding[0].suite}: {deciding[0].reason}{more}"


def headline(compared: Comparison, verdict: Verdict, policy: Policy, new: Collection[str] = ()) -> tuple[str, ...]:
    """What an update did, one clause a side: learned, kept, questions, gate. `new`: suites of the text it learned."""
    learned = [row for row in compared.suites if row.suite in new]
    kept = [row for row in compared.suites if row.suite not in new and row.unit != CORRECT]
    asked = [row for row in compared.suites if row.suite not in new and row.unit == CORRECT]
    clauses = [f"{_LEARNED[row.verdict]} {row.suite}: {_moved(row)}" for row in learned]
    clauses += _worst_first(kept, verdict, policy)
    clauses += [f"{row.suite}: {_moved(row)}, flips {flips(row)}" for row in asked[:_MOST_NAMED]]
    return (*clauses, gate_line(verdict))


_LEARNED = {
    Finding.BETTER: "learned",
    Finding.WORSE: "got worse on",
    Finding.NO_CHANGE: "no change seen on",
    Finding.TOO_FEW: "too few documents to be sure of",
}
_KEPT = {Decision.ACCEPT: "kept", Decision.REJECT: "lost some of", Decision.CANNOT_TELL: "not settled for", None: "on"}
_ORDER = (Decision.REJECT, Decision.CANNOT_TELL, Decision.ACCEPT, None)
_WITHIN = {
    Decision.ACCEPT: "within the {} allowed",
    Decision.REJECT: "beyond the {} allowed",
    Decision.CANNOT_TELL: "{} allowed",
}


def _worst_first(kept: Sequence[Change], verdict: Verdict, policy: Policy) -> list[str]:
    def place(row: Change) -> tuple[int, float]:
        better = -row.change if row.lower_is_better else row.change
        return _ORDER.index(gate(verdict, row.suite)), better / (abs(row.before) or 1.0)

    ranked = sorted(kept, key=place)
    named = [_kept(row, gate(verdict, row.suite), policy.limits(row.suite)) for row in ranked[:_MOST_NAMED]]
    return named + [f"and {len(ranked) - _MOST_NAMED} more texts, below"] * (len(ranked) > _MOST_NAMED)


def _kept(row: Change, decision: Decision | None, limits: Limits) -> str:
    bound = "" if decision is None else ", " + _WITHIN[decision].format(limits.worse_by_at_most)
    bound = bound if limits.worse_by_at_most is not None else ""
    return f"{_KEPT[decision]} {row.suite}: {_moved(row, bound)}"


def _moved(row: Change, bound: str = "") -> str:
    kind = "right " if row.unit == CORRECT else "loss " if row.lower_is_better else ""
    return f"{kind}{value(row.before, row.unit)} → {value(row.after, row.unit)} ({change(row, row.unit)}{bound})"


def dips(found: Mapping[str, Gap]) -> list[str]:
    """One line a side: how the held-out loss went, how deep it dipped on the way, whether it came back."""
    return [_dip(side, gap) for side, gap in found.items()]


def _dip(side: str, gap: Gap) -> str:
    ended = f"loss on {side} text ended {signed(gap.change, '')} from its start"
    if gap.depth <= 0:
        return f"{ended}, and was never above it"
    back = "did not come back" if gap.recovery is None else f"was back after {gap.recovery:,.0f}"
    return f"{ended}; it rose by up to {signed(gap.depth, '')}, after {gap.at:,.0f} tokens, and {back}"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
