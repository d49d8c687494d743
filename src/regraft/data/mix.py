"""Shares of several sources, as counts of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping

from regraft.core.errors import RegraftError, nearest


def apportion(shares: Mapping[str, float], blocks: Mapping[str, int], total: int) -> dict[str, int]:
    """How many of `total` blocks to take of each source, by largest remainders, so that they add up to `total`.

    Sources without a share divide what the others leave, in proportion to their size. A count may exceed what the
    source has: then its blocks are read more than once.

    Args:
        shares: a share in [0, 1] for some or all sources, such as {"docs": 0.7, "code": 0.3}.
        blocks: how many blocks each source has.
        total: blocks to draw.
    """
    for name, share in shares.items():
        if name not in blocks:
            raise RegraftError(f"no source {name!r} among {', '.join(blocks)}{nearest(name, blocks)}", where="shares")
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise RegraftError(f"the share of {name!r} must be between 0 and 1, not {share}", where="shares")
    left = 1 - math.fsum(shares.values())
    rest = {name: count for name, count in blocks.items() if name not in shares}
    size = sum(rest.values())
    if left < -1e-9:
        raise RegraftError(f"the shares add up to {1 - left:.6g}, more than 1", where="shares")
    if left > 1e-9 and not size:
        raise RegraftError(
            f"the shares add up to {1 - left:.6g} and no other source is left for the rest", where="shares"
        )
    exact = {
        name: total * (shares[name] if name in shares else max(left, 0) * rest[name] / (size or 1)) for name in blocks
    }
    # Products such as 0.7 * 10 end a hair under the whole number they stand for.
    counts = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(blocks, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
