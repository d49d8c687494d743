"""Readings: what one suite said about one version, item by item, so that two versions can be paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import RegraftError

Vector = NDArray[np.float64]

CORRECT = "correct"
"""The unit of items that are right (1) or wrong (0); every other unit is continuous."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One suite read by one version.

    Attributes:
        suite: the suite's name.
        fingerprint: digest of the items and the scoring settings; only equal fingerprints compare.
        unit: "nats/token", "correct" (right or wrong), ...
        lower_is_better: True for losses.
        ids: stable item ids, n of them, no two equal.
        values: [n] mean loss of a document, 1 or 0 for an item that is right or wrong, or a score.
        weights: [n] non-negative: tokens of the document, or 1. Items that are right or wrong weigh the same.
        tags: the skills of each item; none given means no tags.
        continuous: [n] or None: a continuous companion of right or wrong, such as the margin in log-likelihood;
            higher is better.
        texts: short previews for reports, or None.
        faults: answers that a checker could not judge, and that count as wrong: how many, by why.

    Raises:
        RegraftError: no items, unequal lengths, repeated ids, or a number that cannot be averaged; names the item.
    """

    suite: str
    fingerprint: str
    unit: str
    lower_is_better: bool
    ids: tuple[str, ...]
    values: Vector
    weights: Vector
    tags: tuple[tuple[str, ...], ...] = ()
    continuous: Vector | None = None
    texts: tuple[str, ...] | None = None
    faults: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, given in (("values", self.values), ("weights", self.weights), ("continuous", self.continuous)):
            if given is not None:
                object.__setattr__(self, name, _locked(given))
        self._check_lengths()
        self._check_numbers()

    def _check_lengths(self) -> None:
        if not self.ids:
            raise RegraftError("has no items", where=self._where, do="A suite needs at least one item")
        if len(set(self.ids)) < len(self.ids):
            again = Counter(self.ids).most_common(1)[0][0]
            raise RegraftError(f"item {again!r} comes twice", where=self._where, do="Give each item its own id")
        lengths = {"values": len(self.values), "weights": len(self.weights)}
        if self.continuous is not None:
            lengths["companion values"] = len(self.continuous)
        lengths |= {name: len(column) for name, column in (("tags", self.tags), ("texts", self.texts)) if column}
        for name, length in lengths.items():
            if length != len(self.ids):
                raise RegraftError(f"{len(self.ids)} ids but {length} {name}", where=self._where)

    def _check_numbers(self) -> None:
        self._refuse(~np.isfinite(self.values), "has no finite value", "Score it again, or leave it out by name")
        self._refuse(~np.isfinite(self.weights) | (self.weights < 0), "has a weight below 0 or not finite")
        if self.continuous is not None:
            self._refuse(~np.isfinite(self.continuous), "has no finite companion value")
        if not self.weights.any():
            raise RegraftError("all weights are 0", where=self._where)
        if self.right_or_wrong:
            self._refuse((self.values != 0) & (self.values != 1), "is neither right (1) nor wrong (0)")
            self._refuse(self.weights != self.weights[0], "weighs more or less than the first item")
            if self.lower_is_better:
                raise RegraftError("right is better than wrong, yet lower_is_better is set", where=self._where)

    def _refuse(self, bad: NDArray[np.bool_], what: str, do: str = "") -> None:
        if bad.any():
            item = self.ids[int(bad.argmax())]
            more = f", as {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
            raise RegraftError(f"item {item!r} {what}{more}", where=self._where, do=do)

    @property
    def _where(self) -> str:
        return f"suite {self.suite}"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def right_or_wrong(self) -> bool:
        return self.unit == CORRECT

    @property
    def mean(self) -> float:
        """Weighted mean: loss per token of the suite, or the share that is right."""
        return float(np.average(self.values, weights=self.weights))

    @property
    def skills(self) -> tuple[str, ...]:
        """Every tag that an item carries, sorted."""
        return tuple(sorted({tag for tags in self.tags for tag in tags}))

    def subset(self, tag: str) -> Reading:
        """The items that carry a tag.

        Raises:
            RegraftError: no item does; lists the tags there are.
        """
        chosen = [row for row, tags in enumerate(self.tags) if tag in tags]
        if not chosen:
            known = ", ".join(self.skills) or "none"
            raise RegraftError(f"no item is tagged {tag!r}", where=self._where, do=f"Tags: {known}")
        return self.take(chosen)

    def take(self, rows: Sequence[int]) -> Reading:
        """The items of these rows, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            values=self.values[index],
            weights=self.weights[index],
            tags=tuple(self.tags[row] for row in rows) if self.tags else (),
            continuous=None if self.continuous is None else self.continuous[index],
            texts=tuple(self.texts[row] for row in rows) if self.texts else None,
            faults={},
        )

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Vector]]:
        """For storage: a header of JSON and the arrays."""
        header = {
            "suite": self.suite,
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "lower_is_better": self.lower_is_better,
            "ids": list(self.ids),
            "tags": [list(tags) for tags in self.tags],
            "texts": list(self.texts) if self.texts else None,
            "faults": dict(self.faults),
        }
        arrays = {"values": self.values, "weights": self.weights, "continuous": self.continuous}
        return header, {name: array.copy() for name, array in arrays.items() if array is not None}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], arrays: Mapping[str, Vector]) -> Reading:
        """What `to_parts` gave.

        Raises:
            RegraftError: a field is missing, or the numbers are not those of a reading.
        """
        try:
            return cls(
                suite=header["suite"],
                fingerprint=header["fingerprint"],
                unit=header["unit"],
                lower_is_better=header["lower_is_better"],
                ids=tuple(header["ids"]),
                values=arrays["values"],
                weights=arrays["weights"],
                tags=tuple(map(tuple, header["tags"])),
                continuous=arrays.get("continuous"),
                texts=tuple(header["texts"]) if header["texts"] else None,
                faults=header.get("faults", {}),
            )
        except KeyError as missing:
            where = f"suite {header.get('suite', '(unnamed)')}"
            raise RegraftError(f"the stored reading lacks {missing}", where=where) from None


def _locked(values: Vector) -> Vector:
    own = np.array(values, dtype=np.float64)
    if own.ndim != 1:
        raise RegraftError(f"a reading's column has shape {list(own.shape)}, not one number per item")
    own.setflags(write=False)
    return own


@dataclass(frozen=True, eq=False)
class Paired:
    """Two readings over the same items in the same order, and how many items only one of them had."""

    before: Reading
    after: Reading
    only_before: int
    only_after: int


def pair(before: Reading, after: Reading) -> Paired:
    """Pairs two readings of a suite by item id.

    Raises:
        RegraftError: they are not of the same items and scoring, they weigh an item differently, or share no item.
    """
    where = f"suite {before.suite}"
    again = "Measure both versions with the same suite"
    if before.fingerprint != after.fingerprint:
        marks = f"{before.fingerprint[:12]} and {after.fingerprint[:12]}"
        raise RegraftError(f"the two versions were read with other items or scoring ({marks})", where=where, do=again)
    if (before.unit, before.lower_is_better) != (after.unit, after.lower_is_better):
        raise RegraftError(f"one side is in {before.unit}, the other in {after.unit}", where=where, do=again)
    rows = {item: row for row, item in enumerate(after.ids)}
    shared = [(row, rows[item]) for row, item in enumerate(before.ids) if item in rows]
    if not shared:
        raise RegraftError("the two versions share no item", where=where, do=again)
    left, right = (before.take([row for row, _ in shared]), after.take([row for _, row in shared]))
    if (left.weights != right.weights).any():
        item = left.ids[int((left.weights != right.weights).argmax())]
        do = "Means per token compare only under one tokenizer: use a unit such as bits per byte"
        raise RegraftError(f"item {item!r} weighs differently in the two versions", where=where, do=do)
    return Paired(left, right, len(before) - len(shared), len(after) - len(shared))
