"""Rewards held at their points: the formula, multipliers that learn, and what is null."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress
from regraft.core.rows import Rows
from regraft.numerics.advantages import advantages
from regraft.parts.transforms.constrained import constrained
from regraft.parts.transforms.nearness import nearness
from regraft.worlds import llama

POINTS = (("a", 0.5), ("b", 0.2))


def context(**other: Any) -> Context:
    nothing: Any = None
    values = {"models": {}, "memory": {}, **other}
    dice = torch.Generator()
    return Context(values["models"], {}, values["memory"], dice, lambda: Progress(0, 1), nothing, nothing, nothing)


def rows(count: int = 8, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    a, b, task = torch.rand(3, count, generator=dice)
    return Rows({"group": torch.arange(count) // 4, "reward/a": a, "reward/b": b, "reward/task": task})


@pytest.mark.parametrize("equal", [True, False])
def test_it_is_the_formula(equal: bool) -> None:
    part, table = constrained(POINTS, task="task", equal=equal, rate=0.7, mu=0.3), rows()
    run = part.begin(context())
    mu = [0.3, 0.3]
    for _ in range(3):
        A = run(table, context())["advantage"]
        s = [math.tanh(m) if equal else 1 / (1 + math.exp(-m)) for m in mu]
        slope = [1 - v * v if equal else v * (1 - v) for v in s]
        each = {name: advantages(table[f"reward/{name}"].double(), table["group"]) for name in ("a", "b", "task")}
        wanted = (2 - sum(s)) * each["task"] + s[0] * each["a"] + s[1] * each["b"]
        assert torch.allclose(A, wanted.float(), atol=1e-6)
        mean = [float(table[f"reward/{name}"].double().mean()) for name in ("a", "b")]
        mu = [m + 0.7 * d * (theta - r) for m, d, (_, theta), r in zip(mu, slope, POINTS, mean, strict=True)]
    assert torch.allclose(run.mu, torch.tensor(mu).double())


def test_what_is_past_its_point_is_wanted_less_until_its_weight_is_negative() -> None:
    run, table = constrained((("a", 0.2),), rate=1.0, mu=0.5).begin(context()), rows()
    for _ in range(20):
        A = run(table, context())["advantage"]
    assert float(run.mu) < 0
    assert torch.allclose(A.sign(), -advantages(table["reward/a"].double(), table["group"]).sign().float())


def test_multipliers_that_do_not_learn_are_fixed_weights_and_they_are_left() -> None:
    table = rows()
    run = constrained((("a", 9.0),), rate=0.0, mu=1e9).begin(context())
    plain = advantages(table["reward/a"].double(), table["group"]).float()
    assert torch.equal(run(table, context())["advantage"], plain)
    assert torch.equal(run(table, context())["advantage"], plain)
    learned = constrained(POINTS).begin(context())
    learned(table, context())
    again = constrained(POINTS).begin(context(memory=learned.leave()))
    assert torch.equal(again.mu, learned.mu)
    saved = learned.state_dict()
    fresh = constrained(POINTS).begin(context())
    fresh.load_state_dict(saved)
    assert torch.equal(fresh.mu, learned.mu)


def test_rows_without_a_reward_do_not_move_its_multiplier() -> None:
    table = rows()
    missing = table.having(**{"reward/a": torch.full((8,), torch.nan)})
    run = constrained(POINTS, mu=0.4).begin(context())
    assert run(missing, context())["advantage"].isfinite().all()
    assert float(run.mu[0]) == pytest.approx(0.4)
    assert float(run.mu[1]) != pytest.approx(0.4)


def test_equal_rewards_and_one_row() -> None:
    table = rows(1).having(**{"reward/task": torch.ones(1)})
    assert not constrained(POINTS, task="task")(table, context())["advantage"].any()


def test_nearness_is_minus_the_log_ratio() -> None:
    from regraft.numerics.answers import answer_blocks
    from regraft.numerics.padded import Padded
    from regraft.numerics.token_loss import log_probs_of

    pi, other = (llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=16, seed=s) for s in (0, 1))
    table = answer_blocks(Padded.of([[5, 6], [7]]), Padded.of([[8, 9, 4], [3]]))
    table = table.having(surprise=-log_probs_of(pi, table).sum(1))
    found = nearness()(table, context(models={"before": other}))["reward"]
    assert torch.allclose(found, log_probs_of(other, table).sum(1) - log_probs_of(pi, table).sum(1), atol=1e-5)
    assert torch.allclose(nearness()(table, context(models={"before": pi}))["reward"], torch.zeros(2), atol=1e-5)
    with pytest.raises(RegraftError, match="no model in the role"):
        nearness(reference="nobody")(table, context())


@pytest.mark.parametrize(
    "wrong",
    [{"points": ()}, {"points": (("a", 1.0), ("a", 2.0))}, {"points": (("a", 1.0),), "task": "a"}, {"rate": -1}],
)
def test_knobs(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegraftError):
        constrained(**{"points": POINTS, **wrong})
