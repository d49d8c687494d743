"""Two scores of each task, a strict one and a mild one: what was lost in form, and what in knowledge.

    S[t, j], K[t, j]: score of version t on task j as asked, and with the form set aside; task j is learned by version
    j + 1, version 0 is the base, T the last
    average            = mean_j a[T, j]                                 of each score a
    stages             = mean_t mean_{j < t} a[t, j]                    over the versions after the base
    backward_transfer  = mean_j a[T, j] - a[j + 1, j]                   over the tasks before the last
    superficial        = mean_j K[T, j] - S[T, j]                       over the same
    essential          = mean_j K[j + 1, j] - K[T, j]                   over the same

What S lost of a task is what it lost of K, and what the gap between the two grew. The two may be the final answer and
the reasoning before it: does the latter fall less?

Paper:   "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning" Chen et al.
         2025. https://arxiv.org/abs/2505.02486
Paper:   "MLLM-CBench:A Comprehensive Benchmark for Continual Instruction Tuning of Multimodal LLMs with
         Chain-of-Thought Reasoning Analysis" Guo et al. 2025. https://arxiv.org/abs/2508.08275
Claim:   reasoning steps fall less than final answers when tasks are learned one after the other.
Needs:   rows `matrix`: `version`, `task`, numbers from 0, and a column for each of the two `scores`, the strict one
         first; higher is better.
Differs: scores are given. In the papers language models judge knowledge and reasoning.
Tags:    forgetting, transfer, language model
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model
from regraft.numerics.finite import finite

Matrix = NDArray[np.float64]


def forgetting_of(scores: Mapping[str, Matrix]) -> dict[str, float]:
    """The measures of two matrices [tasks + 1, tasks], the strict one first; those over earlier tasks from two on."""
    if len(scores) != 2:
        raise RegraftError(f"{len(scores)} scores; two are needed, the strict one first")
    a = {name: finite(values, f"scores {name!r}") for name, values in scores.items()}
    for name, values in a.items():
        if values.ndim != 2 or not values.size or values.shape[0] != values.shape[1] + 1:
            raise RegraftError(f"scores {name!r} are {list(values.shape)}; one version more than tasks is needed")
    S, K = a.values()
    if S.shape != K.shape:
        raise RegraftError(f"the two scores are of {S.shape[1]} and {K.shape[1]} tasks")
    found: dict[str, float] = {}
    for name, values in a.items():
        found[f"{name}_average"] = float(values[-1].mean())
        found[f"{name}_stages"] = float(np.mean([values[t, :t].mean() for t in range(1, len(values))]))
        if len(values) > 2:
            found[f"{name}_backward_transfer"] = float((values[-1] - values[1:].diagonal())[:-1].mean())
    if len(S) > 2:
        found["superficial"] = float((K - S)[-1, :-1].mean())
        found["essential"] = float((K[1:].diagonal() - K[-1])[:-1].mean())
    return found


@metric
def superficial_forgetting(
    model: Model, ctx: Context, *, matrix: str = "matrix", scores: tuple[str, str] = ("asked", "known")
) -> Measurement:
    rows = ctx.rows(matrix)
    at = tuple(np.asarray(rows[name], dtype=np.int64) for name in ("version", "task"))
    if not rows or min(each.min() for each in at) < 0:
        raise RegraftError("versions and tasks are numbers from 0", where=f"rows {matrix!r}")
    if len(set(zip(*(each.tolist() for each in at), strict=True))) < rows.count:
        raise RegraftError("a version has two scores of one task", where=f"rows {matrix!r}")
    found = {}
    for name in scores:
        found[name] = np.full([int(each.max()) + 1 for each in at], np.nan)
        found[name][at] = finite(rows[name], f"column {name!r}")
    return Measurement(forgetting_of(found), {name: values.tolist() for name, values in found.items()})
