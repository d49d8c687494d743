"""The loop's promises:

micro-batches, feeds and resuming change nothing; what is frozen stays; faults stop it cleanly.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regraft.core.define import schedule
from regraft.core.errors import Clash, Diverged, Interrupted, RegraftError
from regraft.core.parts import Context, Outcome, Progress, Slot, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.fit import Fitted, fit, idle
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.ewc import ewc
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.infinite import infinite
from regraft.parts.schedules.rewarm import rewarm


def rows(count: int = 50, seed: int = 0, weighted: bool = False) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    table = Rows(
        {
            "x": torch.randn(count, 6, generator=dice, dtype=torch.float64),
            "y": torch.randint(0, 3, (count,), generator=dice),
            "row": torch.arange(count),
        }
    )
    return table.having(weight=torch.rand(count, generator=dice, dtype=torch.float64)) if weighted else table


def model(dropout: float = 0.0) -> Classifier:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)).double()
    return Classifier(net)


NEW = Feed("new", shuffled("new"))
PLAIN = Plan(feeds=(NEW,), losses=(Weighted(nll()),))
OLD = Plan(feeds=(Feed("old", shuffled("old"), share=0.25),))
SETTINGS = Training(steps=12, batch=8, lr=0.05, clip=None, log_every=3)


def after(
    plan: Plan, training: Training = SETTINGS, dropout: float = 0.0, data=None, **kw: object
) -> dict[str, Tensor]:
    student = model(dropout)
    fit(student, plan, data or {"new": rows(), "old": rows(30, 1)}, training, **kw)
    return {n: t.clone() for n, t in student.state().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[n], b[n], atol=1e-9) for n in a)


def test_a_plain_plan_is_the_bare_loop() -> None:
    student, seen = model(), rows()
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=0.05, fused=True)
    drawn: list[Tensor] = []

    @dataclass(frozen=True)
    class listen:
        def begin(self, ctx: Context) -> listen:
            return self

        def loss(self, view: View) -> Tensor:
            drawn.append(view.rows["row"].clone())
            return view.nll

        def weight(self, view: View) -> Tensor | None:
            return None

    ours = after(Plan(feeds=(NEW,), losses=(Weighted(listen()),)))
    for index in drawn:
        optimizer.zero_grad()
        nn.functional.cross_entropy(student.module(seen["x"][index]), seen["y"][index]).backward()
        optimizer.step()
    assert same(ours, student.state())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("plan", [PLAIN, PLAIN + OLD], ids=["one feed", "two feeds"])
@pytest.mark.parametrize("micro", [1, 3, 8])
def test_micro_batches_do_not_change_the_step(plan: Plan, micro: int, weighted: bool) -> None:
    data = {"new": rows(weighted=weighted), "old": rows(30, 1, weighted)}
    whole = after(plan, data=data)
    pieces = after(plan, Training(steps=12, batch=8, lr=0.05, clip=None, micro_batch=micro), data=data)
    assert close(whole, pieces)


def test_weight_zero_is_absence() -> None:
    both = Plan(feeds=(NEW,), losses=(Weighted(nll()), Weighted(nll(per="row"), 0.0)))
    assert same(after(PLAIN), after(both))


def test_what_pulls_nowhere_in_the_first_step_is_found_and_nothing_is_touched() -> None:
    held = Plan(losses=(Weighted(distil(), 3.0),), penalties=(Weighted(ewc(), 5.0),))
    student, data = model(dropout=0.5), {"new": rows()}
    dice, before = torch.random.get_rng_state(), {n: t.clone() for n, t in student.state().items()}
    one = replace(SETTINGS, steps=1)
    assert idle(model(), PLAIN, data, one) == []
    assert idle(model(), PLAIN + held, data, one) == ["distil"], "ewc has nothing to hold yet"
    learned = model()
    memory = fit(learned, PLAIN + held, data, SETTINGS).memory
    assert idle(learned, PLAIN + held, data, one, memory=memory) == ["distil", "ewc"]
    assert idle(model(), PLAIN + held, data, one, memory=memory) == ["distil"], "ewc holds other weights"
    assert idle(student, PLAIN + held, data, one) == [], "under dropout a model differs from itself"
    assert same(before, student.state())
    assert torch.equal(dice, torch.random.get_rng_state())
    assert all(slot.tensor.requires_grad and slot.tensor.grad is None for slot in student.slots())


def test_the_order_of_losses_does_not_matter() -> None:
    a, b = Weighted(nll(), 0.7), Weighted(nll(per="row"), 0.3)
    assert close(after(Plan(feeds=(NEW,), losses=(a, b))), after(Plan(feeds=(NEW,), losses=(b, a))))


def test_shares_are_exact_over_time() -> None:
    fitted = Counting()
    after(
        PLAIN + Plan(feeds=(Feed("old", shuffled("old"), share=0.05),), losses=()) + fitted.plan(),
        Training(steps=100, batch=8, lr=0.01),
    )
    assert fitted.rows == {"new": 760, "old": 40}


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_feeds_that_all_have_shares_fill_every_batch(batch: int) -> None:
    counted = Counting()
    feeds = tuple(Feed(n, shuffled("new"), share) for n, share in (("a", 0.45), ("b", 0.3), ("c", 0.25)))
    fitted = fit(
        model(),
        Plan(feeds=feeds, losses=(Weighted(nll()),)) + counted.plan(),
        {"new": rows()},
        Training(steps=200, batch=batch, lr=0.01),
    )
    assert fitted.tokens == 200 * batch
    assert all(abs(counted.rows[n] - 200 * batch * share) <= 1 for n, share in (("a", 0.45), ("b", 0.3), ("c", 0.25)))
    with pytest.raises(RegraftError, match="no feed takes the rest"):
        after(Plan(feeds=feeds[:2], losses=(Weighted(nll()),)))


def test_two_feeds_of_one_name_clash() -> None:
    with pytest.raises(Clash, match="one name"):
        Plan(feeds=(NEW, NEW))


@pytest.mark.parametrize(("knobs", "says"), [({"constant": 0.0}, "has no value"), ({"floor": -1.0}, "no value|gives")])
def test_a_schedule_without_a_rate_is_one_line(knobs: dict[str, float], says: str) -> None:
    with pytest.raises(RegraftError, match=says):
        after(PLAIN + Plan(lr=infinite(**knobs)))


class Counting:
    """Counts the rows of every feed by observing."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def plan(self) -> Plan:
        counting = self

        @dataclass(frozen=True)
        class count:
            def begin(self, ctx: Context) -> count:
                return self

            def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
                return grads

            def observe(self, outcome: Outcome) -> None:
                counting.rows[outcome.feed] = counting.rows.get(outcome.feed, 0) + outcome.rows.count
                assert not outcome.losses, "nobody wants them"

        return Plan(gradients=(count(),))


def test_a_loss_may_read_some_feeds_only() -> None:
    alone = Plan(feeds=(NEW, *OLD.feeds), losses=(Weighted(nll(), on=("new",)),))
    data = {"new": rows(), "old": rows(30, 1).having(y=torch.zeros(30, dtype=torch.long))}
    other = {"new": rows(), "old": rows(30, 1).having(y=torch.ones(30, dtype=torch.long))}
    assert same(after(alone, data=data), after(alone, data=other))
    assert not same(after(alone, data=data), after(PLAIN + OLD, data=data))


@dataclass(frozen=True)
class only:
    """Test double: the tensors that may move, and how far."""

    name: str
    factor: float = 1.0
    mask: bool = False

    def begin(self, ctx: Context) -> only:
        return self

    def install(self, model: object) -> None: ...

    def fold(self, model: object) -> None: ...

    def multiplier(self, slot: Slot) -> float | Tensor:
        if slot.name != self.name:
            return 0.0
        if not self.mask:
            return self.factor
        entries = torch.zeros_like(slot.tensor)
        entries[0] = self.factor
        return entries


def test_frozen_tensors_and_entries_do_not_move() -> None:
    before = {n: t.clone() for n, t in model().state().items()}
    decay = Training(steps=12, batch=8, lr=0.05, knobs={"weight_decay": 0.1})
    moved = after(PLAIN + Plan(trainables=(only("3.weight"),)), decay)
    assert {n for n in moved if not torch.equal(moved[n], before[n])} == {"3.weight"}
    part = after(PLAIN + Plan(trainables=(only("3.weight", mask=True),)), decay)
    assert torch.equal(part["3.weight"][1:], before["3.weight"][1:])
    assert not torch.equal(part["3.weight"][0], before["3.weight"][0])


def test_nothing_that_may_move_is_an_error() -> None:
    with pytest.raises(RegraftError, match="no tensor that may move"):
        after(PLAIN + Plan(trainables=(only("3.weight", 0.0),)))


@dataclass(frozen=True)
class stop_at:
    """Test double: raises at a step."""

    step: int
    error: type[BaseException] = KeyError

    def begin(self, ctx: Context) -> stop_at:
        object.__setattr__(self, "progress", ctx.progress)
        return self

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.progress().step == self.step:  # type: ignore[attr-defined]
            raise self.error
        return grads


EACH_STEP = Training(steps=12, batch=8, lr=0.05, log_every=3)


@pytest.mark.parametrize("schedule", [None, rewarm(), infinite()], ids=["none", "rewarm", "infinite"])
@pytest.mark.parametrize("at", [1, 5, 11])
def test_resumed_equals_uninterrupted(tmp_path: Path, at: int, schedule: object) -> None:
    plan = PLAIN + OLD + Plan(lr=schedule)
    data = {"new": rows(), "old": rows(30, 1)}
    watch = {"new": rows(20, 7)}
    straight, resumed = model(0.3), model(0.3)
    one = fit(straight, plan, data, EACH_STEP, monitors=watch, monitor_every=4)
    with pytest.raises(KeyError):
        fit(
            model(0.3),
            plan + Plan(gradients=(stop_at(at),)),
            data,
            EACH_STEP,
            monitors=watch,
            monitor_every=4,
            folder=tmp_path,
            checkpoint_seconds=0.0,
        )
    two = fit(
        resumed,
        plan + Plan(gradients=(stop_at(-1),)),
        data,
        EACH_STEP,
        monitors=watch,
        monitor_every=4,
        folder=tmp_path,
    )
    assert same(straight.state(), resumed.state())
    assert one.curve == two.curve
    assert _tree_equal(one.trunk, two.trunk)
    assert all(torch.equal(one.seen[f], two.seen[f]) for f in one.seen)


def _tree_equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_tree_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_tree_equal(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]
    return a == b


def test_the_seed_decides_dropout_and_the_callers_dice_are_left_alone() -> None:
    torch.manual_seed(1)
    first = after(PLAIN, dropout=0.5)
    torch.manual_seed(99)
    assert same(first, after(PLAIN, dropout=0.5))
    assert not same(first, after(PLAIN, replace(SETTINGS, seed=1), dropout=0.5))
    student = model()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    fit(student, PLAIN, {"new": rows()}, SETTINGS)
    assert torch.equal(torch.rand(1), expected)


def test_ctrl_c_leaves_a_checkpoint(tmp_path: Path) -> None:
    def press(record: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="step 3 of 12"):
        fit(model(), PLAIN, {"new": rows()}, SETTINGS, folder=tmp_path, on_record=press)
    saved, damage = checkpoint.newest(tmp_path)
    assert saved["progress"][0] == 3
    assert not damage


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_serves(tmp_path: Path) -> None:
    straight = after(PLAIN)
    with pytest.raises(KeyError):
        after(
            PLAIN + Plan(gradients=(stop_at(8),)),
            Training(steps=12, batch=8, lr=0.05, clip=None),
            folder=tmp_path,
            checkpoint_seconds=0.0,
        )
    newest = sorted(tmp_path.glob("step-*"))[-1] / "state.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    said: list[str] = []
    assert same(straight, after(PLAIN, folder=tmp_path, on_notice=said.append))
    assert "state.safetensors" in said[0]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    bad = rows().having(x=torch.full((50, 6), float("nan"), dtype=torch.float64))
    with pytest.raises(Diverged, match="is not finite"):
        fit(model(), PLAIN, {"new": bad}, SETTINGS, folder=tmp_path)
    assert checkpoint.newest(tmp_path)[0] is None


def test_a_loss_that_explodes_stops_the_run_where_it_was_good(tmp_path: Path) -> None:
    @schedule
    def jump(t: Progress) -> float:
        return 1.0 if t.step < 20 else 1e6

    settings = Training(steps=300, batch=8, lr=0.05, clip=None, optimizer="SGD", log_every=5)
    with pytest.raises(Diverged, match=r"exploded .* between steps 20 and 2\d"):
        fit(model(), PLAIN + Plan(lr=jump()), {"new": rows()}, settings, folder=tmp_path, checkpoint_seconds=0.0)
    saved, _ = checkpoint.newest(tmp_path)
    assert 20 <= saved["progress"][0] <= 25


def test_the_trunk_is_the_model_before_annealing() -> None:
    student = model()
    fitted = fit(student, PLAIN + Plan(lr=infinite(anneal=0.5)), {"new": rows()}, SETTINGS)
    assert fitted.trunk is not None
    assert not same(fitted.trunk["weights"], student.state())
    again = model()
    again.load(fitted.trunk["weights"])
    on: Fitted = fit(
        again,
        PLAIN + Plan(lr=infinite(anneal=0.5)),
        {"new": rows()},
        SETTINGS,
        memory=fitted.memory,
        optimizer_state=fitted.trunk["optimizer"],
    )
    assert on.curve[0]["lr"] == pytest.approx(0.05 * 0.55)


def test_seen_rows_are_counted() -> None:
    fitted = fit(model(), PLAIN, {"new": rows(200)}, SETTINGS)
    assert int(fitted.seen["new"].sum()) == 96


@pytest.mark.parametrize(
    ("kw", "says"),
    [
        ({"optimizer": "Adamw"}, "did you mean 'AdamW'"),
        ({"knobs": {"beta": 1}}, "has no knob beta"),
        ({"batch": 0}, "batch is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"optimizer": "LBFGS"}, "LBFGS does not step on one dense gradient"),
    ],
)
def test_bad_settings_are_one_clear_line(kw: dict[str, object], says: str) -> None:
    with pytest.raises(RegraftError, match=says):
        Training(**{"steps": 1, "batch": 1, "lr": 0.1, **kw})  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_fewer_rows_than_the_batch(count: int) -> None:
    fitted = fit(model(), PLAIN, {"new": rows(count)}, SETTINGS)
    assert len(fitted.curve) == 4


def test_no_rows_are_an_error() -> None:
    with pytest.raises(RegraftError, match="no rows are left at step 0 of 12"):
        fit(model(), PLAIN, {"new": rows(0)}, SETTINGS)


def test_what_a_branching_schedule_leaves_goes_with_its_trunk() -> None:
    data = {"new": rows()}
    first = fit(model(), PLAIN + Plan(lr=infinite()), data, SETTINGS)
    assert first.memory["infinite"] == 0.55
    then = fit(model(), PLAIN + Plan(lr=rewarm()), data, SETTINGS, memory=first.memory)
    assert then.memory == {}
