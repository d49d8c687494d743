"""Rewards of answers, and what each leads the others to its prompt by."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from regraft.core.errors import RegraftError


def finite_rewards(reward: Tensor, name: str = "reward", rows: Tensor | None = None) -> Tensor:
    """The rewards as float64, or an error that names the first row whose reward is not a finite number.

    Args:
        rows: the rows' numbers, where they are some of a table.
    """
    R = reward.double()
    if len(odd := (~R.isfinite()).nonzero()):
        at = int(odd[0])
        row = at if rows is None else int(rows[at])
        raise RegraftError(f"row {row} has the {name} {R[at].item()}", do="Let no reward be infinite or NaN")
    return R


def advantages(
    R: Tensor, group: Tensor, *, by: Literal["group", "others"] = "group", scaled: bool = True, epsilon: float = 1e-4
) -> Tensor:
    """A, float64 [rows], of rewards R in groups of any numbers: see part `group_advantage`."""
    _, which, sizes = group.unique(return_inverse=True, return_counts=True)
    n: Tensor = sizes[which].double()
    mean = _sums(R, which, len(sizes))[which] / n
    equal = (_most(R, which, len(sizes)) == -_most(-R, which, len(sizes)))[which]
    apart = (R - mean).masked_fill(equal, 0.0)
    if by == "others":
        return apart * n / (n - 1).clamp(min=1.0)
    s = (_sums(apart.square(), which, len(sizes))[which] / (n - 1).clamp(min=1.0)).sqrt()
    return apart / (s + epsilon) if scaled else apart


def _sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros(groups).index_add_(0, group, values)


def _most(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_full((groups,), -float("inf")).scatter_reduce_(0, group, values, "amax")
