"""What is gathered over a long stream in which classes come back, and what is forgotten of each task at once.

    a[t, j]: score of version t on test j, version 0 before the stream; taught[t, j]: task t teaches test j (t = 1 .. T)
    total(t)  = mean_j a[t, j]
    forgot(t) = mean_j a[t, j] - a[t + 1, j]      over the tests that task t teaches and task t + 1 does not

    total_early, total_late            = mean of total over the first and over the last eighth of the tasks
    immediate_early, immediate_late    = mean of forgot over the same
    accumulation                       = total_late - total_early

Losses count as negative scores in all but the totals.

Paper: "Challenging Common Assumptions about Catastrophic Forgetting" Lesort et al. 2022.
       https://arxiv.org/abs/2207.04543
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError
from regraft.numerics.finite import finite

SHARE = 8
"""Early and late are the first and the last of so many parts of the stream."""


def accumulation(
    scores: NDArray[np.float64], taught: NDArray[np.bool_], *, better: Literal["higher", "lower"] = "higher"
) -> dict[str, float]:
    """The measures that the stream is long enough for; `scores` [tasks + 1, tests], `taught` [tasks, tests]."""
    a = finite(scores, "scores of a long stream")
    if a.ndim != 2 or taught.shape != (len(a) - 1, a.shape[1]) or not taught.size:
        raise RegraftError(f"scores {list(a.shape)} are not of one version more than {list(taught.shape)} tasks, tests")
    sign, window = 1.0 if better == "higher" else -1.0, max(1, len(taught) // SHARE)
    total = a[1:].mean(1)
    left = taught[:-1] & ~taught[1:]
    some, lost = left.sum(1), np.where(left, sign * (a[1:-1] - a[2:]), 0.0).sum(1)
    found = {"total_early": float(total[:window].mean()), "total_late": float(total[-window:].mean())}
    found["accumulation"] = sign * (found["total_late"] - found["total_early"])
    for name, part in (("early", slice(None, window)), ("late", slice(-window, None))):
        at = np.flatnonzero(some[part])
        if len(at):
            found[f"immediate_{name}"] = float((lost[part][at] / some[part][at]).mean())
    return found
