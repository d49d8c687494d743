"""The ranking of pairs is read from likelihoods, the margin from the reference, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_policy import context, network, pairs, summed
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.metrics.preference_ranking import preference_ranking


def measured(rows: Rows, **knobs: Any) -> Any:
    ctx = replace(context(), data={"pairs": rows})
    return preference_ranking(**knobs)(ctx.models["student"], ctx)


def test_rankings_are_those_of_the_likelihoods() -> None:
    good, bad, both = pairs()
    agreed = torch.tensor([0.5, 0.9, 0.999, 1.0], dtype=torch.float64)
    found = measured(both.having(agreed=agreed), beta=0.2, batch=3)
    lead, mild = (summed(network(0), good, per) - summed(network(0), bad, per) for per in ("row", "token"))
    c = summed(network(1), bad, "row") - summed(network(1), good, "row")
    wanted = {
        "ranking": lead > 0,
        "ranking_per_token": mild > 0,
        "reference": c < 0,
        "margin": lead + c > 0,
        "idealised": agreed.logit() / 0.2 > c,
        "flipped": (lead > 0)[c > 0],
    }
    for name, right in wanted.items():
        assert found.numbers[name] == right.double().mean().item()
    assert found.numbers["gap"] == found.numbers["idealised"] - found.numbers["ranking"]
    flips = found.tables["flips"]
    assert [row["pairs"] for row in flips] == [1, 1, 1, 1]
    assert [row["c_from"] for row in flips] == pytest.approx(c.sort().values.tolist())
    assert "gap" not in measured(both).numbers


def test_the_loss_says_which_pairs_are_ranked_rightly() -> None:
    good, bad, both = pairs()
    ctx, beta = context(), 0.3
    from regraft.core.parts import View

    seen = View(ctx.models["student"], both, ctx.models)
    loss = direct_preference(beta=beta).begin(ctx).loss(seen)
    c = summed(network(1), bad, "row") - summed(network(1), good, "row")
    right = summed(network(0), good, "row") > summed(network(0), bad, "row")
    assert torch.equal(loss <= -F.logsigmoid(beta * c), right)


def test_what_cannot_be_ranked() -> None:
    _, _, both = pairs()
    with pytest.raises(RegraftError, match="there is no pair"):
        measured(both.take(slice(0, 0)))
    with pytest.raises(RegraftError, match=r"row 1 has 1\.5 in `agreed`"):
        measured(both.having(agreed=torch.tensor([0.5, 1.5, 0.5, 0.5])))
    with pytest.raises(RegraftError, match="beta 0"):
        measured(both, beta=0.0)
