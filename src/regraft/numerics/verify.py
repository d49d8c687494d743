"""Whether what was written answers what was asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from regraft.numerics.sandbox import Sandbox

_NUMBER = re.compile(
    r"(?<![\w.])([-+]?)\s?[$€£]?\s?"
    r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,60}(?:\.\d{1,60})?|\.\d{1,60})"
    r"(?:[eE]([-+]?\d{1,3}))?(?:\s?/\s?(\d{1,60}))?(\s?%)?(?!\d|[.,]\d|[eE][-+]?\d)"
)
_BOXED = "\\boxed{"


class Verdict(NamedTuple):
    """Whether it is `right`; what was `found` as the answer, None where there is none; and `why` it is not right."""

    right: bool
    found: str | None
    why: str = ""


def answer(written: str, marker: str | None = None) -> str | None:
    r"""What a text gives as its answer: after the last `marker`, on that line; without one the whole text.

    With the marker `\boxed{`, what is in the last such braces. None where there is no marker, or nothing after it.
    """
    if marker is None:
        return written.strip() or None
    _, there, after = written.rpartition(marker)
    if not there:
        return None
    inside = _braced(after) if marker == _BOXED else after.strip().split("\n", 1)[0].strip()
    return inside or None


def _braced(text: str) -> str:
    """What stands before the brace that closes; nothing where none does."""
    depth = 1
    for at, each in enumerate(text):
        depth += (each == "{") - (each == "}")
        if not depth:
            return text[:at].strip()
    return ""


def exact(written: str, accepted: Sequence[str], *, marker: str | None = None, fold: bool = False) -> Verdict:
    """Whether the answer is one of those accepted, white space aside; `fold`: upper and lower case are the same."""

    def plain(text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if fold else text

    if (found := answer(written, marker)) is None:
        return Verdict(False, None, "no answer")
    right = plain(found) in map(plain, accepted)
    return Verdict(right, found, "" if right else "another answer")


def number(text: str) -> Fraction | None:
    """The last number in a text, exactly: `-1,234.5`, `6e-3`, `7/8`, `12 %`, `$3`; None where there is none."""
    found = None
    for sign, digits, exponent, below, percent in _NUMBER.findall(text):
        if below and not int(below):
            continue
        found = Fraction(digits.replace(",", "")) * Fraction(10) ** int(exponent or 0)
        found = found / int(below or 1) / (100 if percent else 1)
        found = -found if sign == "-" else found
    return found


def numeric(written: str, accepted: Sequence[str], *, marker: str | None = None, tolerance: float = 1e-6) -> Verdict:
    """Whether the last number of the answer is one of those accepted, up to a part `tolerance` of it."""
    said = answer(written, marker)
    if said is None or (found := number(said)) is None:
        return Verdict(False, said, "no number")
    for wanted in map(number, accepted):
        if wanted is not None and abs(found - wanted) <= abs(wanted) * Fraction(tolerance):
            return Verdict(True, said)
    return Verdict(False, said, "another number")


def code(written: str) -> str | None:
    """The program in a text: its last block between lines of ``` or, without such lines, the text itself."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)(?:^```|\Z)", written, re.M | re.S)
    return (blocks[-1] if blocks else written).strip("\n") or None


def programs(written: Sequence[str], tests: Sequence[str], sandbox: Sandbox) -> list[Verdict]:
    """Whether each program runs to the last line of its tests, which are run after it in the same names."""
    found = [code(text) for text in written]
    ran = iter(sandbox.run([f"{c}\n\n{t}" for c, t in zip(found, tests, strict=True) if c is not None]))
    return [
        Verdict(False, None, "no program") if c is None else Verdict(not (why := next(ran).why), c, why) for c in found
    ]
