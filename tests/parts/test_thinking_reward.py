"""A judge's score beside the outcome: trusted by what it tells apart in a group, faded out, absent at null knobs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_rewards import context, table, told

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.parts.transforms.thinking_reward import thinking_reward

ROWS = table(
    reward=[1.0, 0.0, 1.0, 0.25, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.5],
    t=[0.9, 0.1, 0.7, 0.4, 0.8, 0.3, 0.9, 0.2, 0.6, 0.5, 0.4],
    group=[5, 5, 5, 5, 7, 7, 7, 2, 2, 9, 9],
)


def scored(rows: Rows = ROWS, step: int = 0, **knobs: Any) -> Rows:
    ctx = context(step)
    return thinking_reward(told(column="t"), **knobs).begin(ctx)(rows, ctx)


@pytest.mark.parametrize("least", [-math.inf, 0.2])
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("step", [0, 7])
def test_it_is_its_formula(step: int, trusted: bool, least: float) -> None:
    found = scored(step=step, alpha=0.4, T=10.0, trusted=trusted, least=least)
    o, t, group = (ROWS[name].tolist() for name in ("reward", "t", "group"))
    for r in range(ROWS.count):
        own = [i for i in range(ROWS.count) if group[i] == group[r]]
        right, wrong = [t[i] for i in own if o[i] >= 1], [t[i] for i in own if o[i] < 1]
        gamma = math.nan
        if right and wrong:
            gamma = math.exp(min(0.0, sum(right) / len(right) - sum(wrong) / len(wrong)))
        bonus = 0.0 if math.isnan(gamma) or o[r] < least else 0.4 * math.exp(-step / 10) * t[r]
        assert float(found["reward"][r]) == pytest.approx(o[r] + bonus * (gamma if trusted and bonus else 1.0))
        assert float(found["trust"][r]) == pytest.approx(gamma, nan_ok=True)
    assert torch.equal(found["reward/outcome"], ROWS["reward"])
    assert torch.equal(found["reward/thinking"], ROWS["t"])
    assert found["reward"].dtype == torch.float32


def test_null_knobs_leave_the_outcome_as_it_is_bit_for_bit() -> None:
    rows = ROWS.having(reward=ROWS["reward"] / 3 + 0.7)
    assert torch.equal(scored(rows, alpha=0.0)["reward"], rows["reward"])
    assert torch.equal(scored(rows, least=9.0)["reward"], rows["reward"])
    assert torch.equal(scored(step=9, T=math.inf)["reward"], scored(step=0, T=1.0)["reward"])


def test_a_question_that_shows_nothing_of_the_judge_has_outcomes_alone() -> None:
    for at in (slice(7, 11), slice(0, 1), slice(1, 2), slice(0, 0)):
        rows = ROWS.take(at)
        found = scored(rows)
        assert torch.equal(found["reward"], rows["reward"])
        assert bool(found["trust"].isnan().all())


def test_a_judge_that_prefers_wrong_answers_is_trusted_less() -> None:
    trust = scored()["trust"]
    assert trust[:4].tolist() == [1.0] * 4
    assert bool((trust[4:7] < 1).all())


def test_what_it_cannot_take() -> None:
    part = thinking_reward(told(column="t"))
    for odd, says in (({"alpha": -1.0}, "alpha is -1"), ({"T": 0.0}, "T is 0"), ({"alpha": math.nan}, "alpha is nan")):
        with pytest.raises(RegraftError, match=f"^thinking_reward: {says}"):
            replace(part, **odd)

    @transform
    def fewer(rows: Rows, ctx: Context) -> Rows:
        return rows.take(slice(0, 1))

    with pytest.raises(RegraftError, match="its judge must keep every row"):
        thinking_reward(fewer())(ROWS, context())
    with pytest.raises(RegraftError, match="row 2 has the score of its judge nan"):
        scored(ROWS.having(t=torch.tensor([0.0, 0.0, math.nan, *[0.0] * 8])))
