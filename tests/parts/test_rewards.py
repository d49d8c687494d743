"""Several rewards in one, rewards for length and form, and multipliers that hold each where it is trusted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import schedule, transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress
from regraft.core.rows import Rows
from regraft.parts.transforms.format_reward import format_reward
from regraft.parts.transforms.length_reward import length_reward
from regraft.parts.transforms.rewards import Reward, rewards


def context(step: int = 0, total: int = 10) -> Context:
    nothing: Any = None
    now = Progress(step, total)
    ctx = Context({}, {}, {}, torch.Generator().manual_seed(0), lambda: now, lambda p: p.begin(ctx), nothing, nothing)
    return ctx


@transform
def told(rows: Rows, ctx: Context, *, column: str, fault: str = "") -> Rows:
    """The column, as a reward."""
    found = rows.having(reward=torch.as_tensor(rows[column]))
    return found.having(fault=[fault] * rows.count) if fault else found


@schedule
def falling(t: Progress) -> float:
    return 1 - t.share


def table(**columns: Any) -> Rows:
    return Rows({name: torch.tensor(c) if isinstance(c[0], float | int) else c for name, c in columns.items()})


ROWS = table(a=[1.0, 0.0, 1.0, 0.5, 2.0], b=[0.1, 0.2, -0.3, 0.4, 0.5], kind=["x", "y", "x", "z", "y"])


def given(*parts: Reward, rows: Rows = ROWS, ctx: Context | None = None) -> Rows:
    ctx = ctx or context()
    return rewards(parts).begin(ctx)(rows, ctx)


def test_one_reward_is_itself_bit_for_bit() -> None:
    found = given(Reward("b", told(column="b")))
    assert torch.equal(found["reward"], ROWS["b"])
    assert torch.equal(found["reward/b"], ROWS["b"])
    assert torch.equal(rewards((Reward("b", told(column="b")),))(ROWS, context())["reward"], ROWS["b"])


@pytest.mark.parametrize("step", [0, 3, 10])
def test_the_sum_is_weighted_gated_and_typed(step: int) -> None:
    found = given(
        Reward("a", told(column="a"), weight=2.0),
        Reward("b", told(column="b"), weight=falling(), gates=(("a", 1.0), ("only y", 0.0))),
        Reward("only y", told(column="a"), weight=0.25, kind=("kind", "y")),
        Reward("watched", told(column="b"), weight=0),
        ctx=context(step),
    )
    a, b, w = ROWS["a"].double(), ROWS["b"].double(), 1 - step / 10
    wanted = [
        2 * a[r] + (w * b[r] if a[r] >= 1 and y else 0) + (0.25 * a[r] if y else 0)
        for r, y in enumerate(k == "y" for k in ROWS["kind"])
    ]
    assert torch.allclose(found["reward"].double(), torch.stack(wanted), atol=1e-6)
    assert found["reward"].dtype == torch.float32
    assert torch.equal(found["reward/watched"], ROWS["b"])
    assert torch.equal(found["reward/only y"].isnan(), torch.tensor([True, False, True, True, False]))
    assert torch.equal(found["reward/b"], ROWS["b"]), "it stays as it was given"


def test_a_transform_is_shown_rows_of_its_kind_alone() -> None:
    seen: list[list[str]] = []

    @transform
    def looking(rows: Rows, ctx: Context) -> Rows:
        seen.append(rows["kind"])
        return rows.having(reward=torch.ones(rows.count))

    found = given(Reward("x", looking(), kind=("kind", "x")), Reward("no", looking(), kind=("kind", "nothing")))
    assert seen == [["x", "x"]]
    assert found["reward"].tolist() == [1, 0, 1, 0, 0]
    assert bool(found["reward/no"].isnan().all())
    number = ROWS.having(kind=torch.tensor([0, 1, 0, 2, 1]))
    assert given(Reward("x", told(column="a"), kind=("kind", 1)), rows=number)["reward"].tolist() == [0, 0, 0, 0, 2]


def test_rows_of_any_number() -> None:
    parts = (Reward("a", told(column="a")), Reward("y", told(column="b"), kind=("kind", "y"), gates=(("a", 1.0),)))
    for count in (0, 1, 3):
        found = given(*parts, rows=ROWS.take(slice(0, count)))
        assert found.count == count
        assert torch.equal(found["reward"], ROWS["a"][:count])
        assert found["fault"] == [""] * count


def test_the_first_fault_of_a_row_is_told() -> None:
    found = given(
        Reward("a", told(column="a", fault="it hung"), kind=("kind", "x")),
        Reward("b", told(column="b", fault="it raised")),
    )
    assert found["fault"] == ["it hung", "it raised", "it hung", "it raised", "it raised"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_told_with_its_row(value: float) -> None:
    rows = ROWS.having(a=torch.tensor([1.0, 1.0, 1.0, 1.0, value]))
    with pytest.raises(RegraftError, match=f"^row 4 has the reward/odd {value}"):
        given(Reward("odd", told(column="a"), kind=("kind", "y")), rows=rows)


def test_what_rewards_cannot_be() -> None:
    @transform
    def fewer(rows: Rows, ctx: Context) -> Rows:
        return rows.take(slice(0, 1))

    with pytest.raises(RegraftError, match="what gives 'a' must keep every row"):
        given(Reward("a", fewer()))
    a = Reward("a", told(column="a"))
    for parts in ((), (a, a), (replace(a, weight=-1.0),), (replace(a, gates=(("b", 0.0),)),)):
        with pytest.raises(RegraftError, match="rewards: "):
            rewards(parts)


def test_rewards_may_hold_transforms_that_begin() -> None:
    parts = (Reward("length", length_reward(4)), Reward("a", told(column="a"), weight=0.5))
    rows = ROWS.having(length=torch.arange(3, 8))
    assert rewards(parts)(rows, context())["reward"].tolist() == [0.5, 0, -0.5, -0.75, 0]


LENGTHS = torch.tensor([0, 1, 5, 6, 7, 8, 9, 10, 12, 13, 40])


def lengths(part: Any, ctx: Context | None = None) -> list[float]:
    ctx = ctx or context()
    found: Tensor = part.begin(ctx)(Rows({"length": LENGTHS}), ctx)["reward"]
    return found.tolist()


def test_overlong_answers_are_punished() -> None:
    assert lengths(length_reward(10)) == [0] * 8 + [-1] * 3
    soft = [0.0 if n <= 6 else -1.0 if n > 10 else (10 - 4 - n) / 4 for n in LENGTHS.tolist()]
    assert lengths(length_reward(10, cache=4)) == soft
    assert lengths(length_reward(10, cache=4, most=0.5)) == [r / 2 for r in soft]


def test_a_budget_is_a_triangle() -> None:
    wanted = [n / 6 if n <= 6 else max(0.0, (12 - n) / 6) for n in LENGTHS.tolist()]
    assert lengths(length_reward(6, by="budget")) == pytest.approx(wanted)
    assert lengths(length_reward(6, by="budget", most=3.0)) == pytest.approx([3 * r for r in wanted])


def test_a_limit_may_move() -> None:
    @schedule
    def limit(t: Progress) -> float:
        return 10.0 - t.step

    assert lengths(length_reward(limit()), context(4)) == lengths(length_reward(6))
    assert lengths(length_reward(limit(), by="budget"), context(10)) == [0.0] * len(LENGTHS)


def test_a_form_is_asked_for() -> None:
    rows = Rows({"written": ["12", " 12", "x12", "", "1\n2"]})
    ctx = context()
    assert format_reward(pattern=r"\s*\d+")(rows, ctx)["reward"].tolist() == [1, 1, 0, 0, 0]
    assert format_reward(pattern=r"\d$", within=True, right=0.5, wrong=-1)(rows, ctx)["reward"].tolist() == [
        0.5,
        0.5,
        0.5,
        -1,
        0.5,
    ]
    assert format_reward(pattern=r"(?s)1.2")(rows, ctx)["reward"].tolist() == [0, 0, 0, 0, 1]
    assert format_reward(pattern=".")(Rows({"written": []}), ctx)["reward"].tolist() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: length_reward(0),
        lambda: length_reward(5, cache=-1),
        lambda: length_reward(5, by="budget", cache=1),
        lambda: length_reward(5, by="short"),  # type: ignore[arg-type]
        lambda: format_reward(pattern="(")(Rows({"written": ["a"]}), context()),
    ],
)
def test_knobs_that_cannot_be(make: Any) -> None:
    with pytest.raises(RegraftError):
        make()
