"""Errors a person can act on: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RegraftError(Exception):
    """Bad input or usage.

    Args:
        what: what was wrong, without a final full stop.
        where: the place: a file, `file:line`, a column, a row, a recipe key.
        do: what the reader can do about it.

    The command line prints `where: what. do` on one line and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, do: str = "") -> None:
        self.what, self.where, self.do = what, None if where is None else str(where), do
        super().__init__(" ".join(self._line().split()))

    def _line(self) -> str:
        head = f"{self.where}: " if self.where else ""
        tail = f". {self.do}" if self.do else ""
        return f"{head}{self.what}{tail}"


class Clash(RegraftError):
    """Two parts of a plan set the same thing; the message names both."""


class Diverged(RegraftError):
    """A loss turned NaN or exploded: the run stands at its last good checkpoint."""


class DamagedStore(RegraftError):
    """A stored file is missing or its content is not what its digest says."""

    exit_code = 4


class Interrupted(RegraftError):
    """The run was stopped by the user and can be resumed."""

    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'` for the known word that is nearest, or nothing:

    the end of a message about an unknown one.
    """
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[near[0]]!r}" if near else ""
