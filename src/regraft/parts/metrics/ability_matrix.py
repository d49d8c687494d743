"""The matrix of versions x domains, and what it says of keeping and of transfer.

    a[t, j]: score of version t on domain j (losses: negative); l(j): the version that learned j; T: the last version
    average           = mean_j a[T, j] over the domains learned (losses: as losses)
    forgetting        = mean_j max_{l(j) <= t < T} a[t, j] - a[T, j]     over the domains learned before T
    backward_transfer = mean_j a[T, j] - a[l(j), j]                      over the domains learned before T
    forward_transfer  = mean_j a[l(j)-1, j] - a[0, j]                    over the domains after the first
    specialisation    = mean_j a[l(j), j] - alone[j]                     alone: the base, fine-tuned on j only

Version 0 is the base before the stream (zero-shot). Above 0 is good for all but forgetting. A measure over no domain at
all is left out. `order_by_similarity` chains domains, each next the most similar of those left: a similar order
specialises, a mixed one transfers.

Paper:   "Investigating Continual Pretraining in Large Language Models: Insights and Implications" Yıldız et al. 2024. https://arxiv.org/abs/2402.17400
Claim:   in similar order specialisation is not negative; in random order the last loss over all domains is lower.
Needs:   rows `matrix`: `version`, `learned` (the version's domain; empty for the base), `domain`, `value`, versions in
         order; rows that `alone` names, for specialisation: `domain`, `value`.
Differs: similarity is the cosine of hashed n-gram counts (the paper embeds sentences with a network), and the chain
         starts at the domain most like all others. Transfers are in the unit given, such as nats; the paper's are in
         perplexity. Forgetting (from the best version on) is the usual one of continual learning.
Tags:    forgetting, transfer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model
from regraft.core.rows import Rows
from regraft.numerics.finite import finite

Vector = NDArray[np.float64]
Better = Literal["lower", "higher"]


@dataclass(frozen=True, eq=False)
class AbilityMatrix:
    """Values [versions, domains]; `learned` [versions] is the column that each version learned, None for the base.

    A version may be NaN on a domain that was not known yet. `alone` [domains]: the base fine-tuned on one domain only,
    NaN where that was not done.
    """

    values: Vector
    learned: tuple[int | None, ...]
    better: Better = "lower"
    alone: Vector | None = None

    def __post_init__(self) -> None:
        asked, at = np.array(self.values), [j for j in self.learned if j is not None]
        for version, j in enumerate(self.learned[: len(asked)]):
            if j is not None and asked.ndim == 2 and 0 <= j < asked.shape[1]:
                asked[:version, j] = np.nan_to_num(asked[:version, j])
        shape = finite(asked, "ability matrix").shape
        if len(shape) != 2 or not shape[0] or len(self.learned) != shape[0]:
            raise RegraftError(f"an ability matrix of {list(shape)} does not fit {len(self.learned)} versions")
        if len(set(at)) < len(at) or not set(at) <= set(range(shape[1])):
            raise RegraftError(f"the versions learned the domains {at}, of {shape[1]}, each at most once")
        if self.learned[0] is not None:
            raise RegraftError("the first version of the matrix learned a domain", do="Put the base model first")

    def measures(self) -> dict[str, float]:
        """Every measure that at least one domain has."""
        sign = 1.0 if self.better == "higher" else -1.0
        a, last = sign * self.values, len(self.learned) - 1
        at = {j: t for t, j in enumerate(self.learned) if j is not None}
        earlier = {j: t for j, t in at.items() if t < last}
        alone = np.full(a.shape[1], np.nan) if self.alone is None else sign * self.alone
        found = {
            "average": [sign * a[last, j] for j in at],
            "forgetting": [a[t:last, j].max() - a[last, j] for j, t in earlier.items()],
            "backward_transfer": [a[last, j] - a[t, j] for j, t in earlier.items()],
            "forward_transfer": [a[t - 1, j] - a[0, j] for j, t in at.items() if t > 1 and not np.isnan(a[0, j])],
            "specialisation": [a[t, j] - alone[j] for j, t in at.items() if not np.isnan(alone[j])],
        }
        return {name: float(np.mean(each)) for name, each in found.items() if each}


def order_by_similarity(bags: ArrayLike, *, start: int | None = None) -> list[int]:
    """Domains in a chain, each next the most similar (cosine) of those left; ties go to the first.

    Args:
        bags: [domains, features] counts, as `regraft.numerics.ngram.ngram_bags` makes them.
        start: the first domain; if not given, the one most similar to all others together.
    """
    counts = finite(bags, "bags")
    if counts.ndim != 2 or not counts.any(1).all():
        raise RegraftError("bags must be [domains, features], none empty", do="Leave out domains without n-grams")
    if not len(counts):
        return []
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    similar = unit @ unit.T
    if start is not None and not 0 <= start < len(unit):
        raise RegraftError(f"no domain {start} among {len(unit)} to start at")
    chain = [int(similar.sum(1).argmax()) if start is None else start]
    left = np.delete(np.arange(len(unit)), chain[0])
    while left.size:
        nearest = int(similar[chain[-1], left].argmax())
        chain.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return chain


def matrix_of(rows: Rows, alone: Rows | None = None, *, better: Better = "lower") -> tuple[AbilityMatrix, list[str]]:
    """The matrix of a long table (see Needs) and the domains' names, in the order they first appear."""
    if not rows.count:
        raise RegraftError("the ability matrix is empty")
    learned = dict(zip(rows["version"], rows["learned"], strict=True))
    domains, versions = list(dict.fromkeys(rows["domain"])), list(learned)
    values = np.full((len(versions), len(domains)), np.nan)
    column, line = _places(domains), _places(versions)
    at = [line[v] for v in rows["version"]], [column[d] for d in rows["domain"]]
    values[at] = finite(rows["value"], "column 'value' of the ability matrix")
    if len(set(zip(*at, strict=True))) < rows.count:
        raise RegraftError("a version has two values for one domain", where="ability matrix")
    if len(missing := np.argwhere(np.isnan(values))):
        t, j = missing[0]
        raise RegraftError(f"version {versions[t]!r} has no value for domain {domains[j]!r}", where="ability matrix")
    if unknown := [d for d in learned.values() if d and d not in column]:
        raise RegraftError(f"no value of domain {unknown[0]!r}, which a version learned", where="ability matrix")
    single = np.full(len(domains), np.nan)
    if alone is not None and alone.count:
        if unknown := [d for d in alone["domain"] if d not in column]:
            raise RegraftError(f"no domain {unknown[0]!r} in the ability matrix", where="rows of single domains")
        single[[column[d] for d in alone["domain"]]] = finite(alone["value"], "column 'value' of single domains")
    return AbilityMatrix(values, tuple(column[d] if d else None for d in learned.values()), better, single), domains


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


@metric
def ability_matrix(
    model: Model, ctx: Context, *, matrix: str = "matrix", alone: str | None = None, better: Better = "lower"
) -> Measurement:
    single = None if alone is None else ctx.rows(alone)
    found, domains = matrix_of(ctx.rows(matrix), single, better=better)
    return Measurement(found.measures(), {"domains": domains, "values": found.values.tolist()})
