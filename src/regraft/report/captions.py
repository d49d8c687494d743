"""What stands over the lists of a report."""

from __future__ import annotations

from regraft.evidence.readings import CORRECT
from regraft.report import words
from regraft.report.facts import Costs, Moved


def worse(moved: Moved) -> str:
    """How many items got worse."""
    return _counted(moved, moved.worse_count, len(moved.worse), "right before, wrong now", rose=moved.lower_is_better)


def better(moved: Moved) -> str:
    """How many items got better."""
    return _counted(
        moved, moved.better_count, len(moved.better), "wrong before, right now", rose=not moved.lower_is_better
    )


def _counted(moved: Moved, count: int, shown: int, flipped: str, *, rose: bool) -> str:
    if moved.unit == CORRECT:
        what, which = flipped, "first"
    else:
        what = f"whose {'loss' if moved.lower_is_better else 'score'} {'rose' if rose else 'fell'}"
        which = "most changed"
    return f"{count} of {moved.items} {what}" + (f"; the {shown} {which}" if shown < count else "")


def costs(spent: Costs) -> list[tuple[str, str]]:
    """What an update took, by name."""
    rows = [
        ("tokens trained on", "" if spent.tokens is None else f"{spent.tokens:,}"),
        ("seconds, with measuring", "" if spent.seconds is None else f"{spent.seconds:,.1f}"),
        ("tokens per second", "" if spent.tokens_per_second is None else f"{spent.tokens_per_second:,.0f}"),
        ("disk, this version alone", words.size(spent.own_bytes)),
        ("disk, the whole line", words.size(spent.line_bytes)),
        ("environment", ", ".join(f"{name} {said}" for name, said in spent.environment.items())),
    ]
    return [(name, said) for name, said in rows if said]
