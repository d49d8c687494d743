"""Replay, repeated random subsets, temperature sampling, and the loss weights that stand in for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from part_world import PLAIN, SETTINGS, STEPS, context, model, resumed, run, same, table
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Out, Progress, Sampler, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.models.base import TorchModel
from regraft.numerics.mixture import places_by, tempered
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.replay import replay
from regraft.parts.samplers.rs2 import rs2
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.temperature import temperature
from regraft.parts.schedules.cooldown import cooldown
from regraft.parts.transforms.upweight import upweight

AB = ["a"] * 20 + ["b"] * 5
EVERY: list[Sampler] = [
    replay("new"),
    replay("new", {"a": 1, "b": 3}),
    rs2(0.3),
    rs2(0.3, replacement=True),
    temperature(5.0),
    temperature(cooldown(switch=0.5)),
]


class OnDisk:
    """A lazy column that keeps count of the entries it was asked for."""

    def __init__(self, entries: list[Any] | Tensor) -> None:
        self.entries, self.read = entries, 0

    def __len__(self) -> int:
        return len(self.entries)

    def gather(self, index: Tensor) -> list[Any] | Tensor:
        self.read += len(index)
        return self.entries[index] if isinstance(self.entries, Tensor) else [self.entries[i] for i in index.tolist()]


def draws(part: Sampler, rows: Rows, *counts: int, source: str = "new", **kw: Any) -> list[list[int]]:
    begun = part.begin(context({source: rows}, **kw))
    return [drawn["row"].tolist() if (drawn := begun.draw(n)) else [] for n in counts]


def plan(sampler: Sampler) -> Plan:
    return Plan(feeds=(Feed("new", sampler),), losses=(Weighted(nll()),))


# --- every sampler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", EVERY, ids=repr)
@pytest.mark.parametrize("at", [1, 2, 8])
def test_resumed_equals_uninterrupted(tmp_path: Path, part: Sampler, at: int) -> None:
    data = {"new": table(25, sources=AB)}
    whole, pieces = run(plan(part), data), resumed(plan(part), tmp_path, at, data)
    assert same(whole[0], pieces[0])
    assert torch.equal(whole[1].seen["new"], pieces[1].seen["new"])


@pytest.mark.parametrize("part", EVERY, ids=repr)
def test_no_rows_no_draws(part: Sampler) -> None:
    empty = table(25, sources=AB).take(slice(0, 0))
    assert draws(part, empty, 3, 1) == [[], []]
    assert draws(part, Rows({}), 3) == [[]]


@pytest.mark.parametrize("part", [p for p in EVERY if not getattr(p, "weights", ())], ids=repr)
def test_one_row_is_drawn_as_often_as_asked(part: Sampler) -> None:
    assert draws(part, table(1, sources=["a"]), 3, 1) == [[0, 0, 0], [0]]


@pytest.mark.parametrize("part", EVERY, ids=repr)
@pytest.mark.parametrize("count", [1, 7, 60])
def test_every_draw_is_as_long_as_asked(part: Sampler, count: int) -> None:
    assert [len(d) for d in draws(part, table(25, sources=AB), count, count)] == [count, count]


@pytest.mark.parametrize("part", EVERY, ids=repr)
def test_only_the_rows_that_are_drawn_are_read(part: Sampler) -> None:
    big = OnDisk(torch.arange(25))
    begun = part.begin(context({"new": Rows({"row": big, "source": AB})}))
    assert begun.draw(4).count == 4
    assert big.read == 4


# --- replay ---------------------------------------------------------------------------------------------------------


def test_replay_shows_all_of_the_past_before_any_of_it_again() -> None:
    seen = [row for d in draws(replay(), table(10), 3, 3, 3, 3, 3, 3, 2, source="past") for row in d]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_replay_without_weights_is_shuffled_passes_over_the_past() -> None:
    counts = (3, 8, 1, 30)
    assert draws(replay("new"), table(10), *counts) == draws(shuffled("new"), table(10), *counts)


def test_replay_with_no_share_is_absence_bit_for_bit() -> None:
    with_past = PLAIN + Plan(feeds=(Feed("past", replay(), share=0.0),))
    assert same(run(PLAIN)[0], run(with_past, {"new": table(30), "past": table(9, 1)})[0])


def test_replay_gives_the_share_of_the_feed() -> None:
    with_past = PLAIN + Plan(feeds=(Feed("past", replay(), share=0.25),))
    _, fitted = run(with_past, {"new": table(96), "past": table(24, 1)})
    assert int(fitted.seen["past"].sum()) == 24 == STEPS * 8 * 0.25
    assert int(fitted.seen["new"].sum()) == 72


def test_replay_divides_its_draws_by_weights() -> None:
    rows = table(25, sources=AB)
    found = Counter(AB[i] for i in draws(replay("new", {"a": 1, "b": 3}), rows, 4000)[0])
    assert found["b"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(draws(replay("new", {"a": 0, "b": 3}), rows, 200)[0]) == set(range(20, 25))


def test_replay_walks_each_source_without_replacement() -> None:
    drawn = draws(replay("new", {"a": 1, "b": 1}), table(25, sources=AB), 7, 60, 33)
    for source in "ab":
        uses = Counter(i for d in drawn for i in d if AB[i] == source)
        assert max(uses.values()) - min(uses.values()) <= 1


def test_weights_are_the_same_knob_however_they_are_written() -> None:
    assert replay(weights={"a": 1, "b": 2}) == replay(weights=(("a", 1.0), ("b", 2.0)))  # type: ignore[arg-type]
    assert hash(replay(weights={"a": 1})) == hash(replay(weights=[["a", 1]]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, r"weights are of \['a'\]; the rows 'new' have the sources \['a', 'b'\]"),
        ({"a": 1, "b": 1, "c": 1}, "the rows 'new' have the sources"),
        ({"a": -1, "b": 2}, "the weight of 'a' is -1.0"),
        ({"a": 0, "b": 0}, "not all be 0"),
        ([("a", 1), ("a", 2)], "name each source once"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(RegraftError, match=message):
        draws(replay("new", weights), table(25, sources=AB), 1)


def test_replay_of_rows_that_are_not_there_is_refused() -> None:
    with pytest.raises(RegraftError, match=r"no rows named 'past'; there are \['new'\]"):
        replay().begin(context({"new": table(3)}))


# --- repeated random subsets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "fraction"), [(10, 0.3), (10, 0.5), (7, 0.1), (100, 0.29), (33, 0.05), (5, 1.0)])
@pytest.mark.parametrize("batch", [1, 4])
def test_rs2_uses_every_row_equally(count: int, fraction: float, batch: int) -> None:
    begun, uses = rs2(fraction).begin(context({"new": table(count)})), Counter(dict.fromkeys(range(count), 0))
    for drawn in range(batch, 3 * count, batch):
        uses.update(begun.draw(batch)["row"].tolist())
        assert set(uses.values()) <= {drawn // count, -(-drawn // count)}


def test_rs2_after_one_over_r_epochs_has_seen_each_row_once() -> None:
    epochs = draws(rs2(0.2), table(20), 4, 4, 4, 4, 4)
    assert sorted(i for e in epochs for i in e) == list(range(20))


def test_rs2_with_replacement_has_no_row_twice_in_an_epoch_and_forgets_between_them() -> None:
    epochs = draws(rs2(0.5, replacement=True), table(20), *[10] * 40)
    assert all(len(set(e)) == 10 for e in epochs)
    assert len(set(epochs[0]) | set(epochs[1])) < 20
    uses = Counter(i for e in epochs for i in e)
    assert max(uses.values()) - min(uses.values()) > 1
    assert sum(uses.values()) == 400


@pytest.mark.parametrize("replacement", [False, True])
def test_rs2_of_everything_is_shuffled_passes(replacement: bool) -> None:
    counts = (3, 8, 1, 30)
    assert draws(rs2(1.0, replacement), table(10), *counts) == draws(shuffled("new"), table(10), *counts)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(RegraftError, match="fraction is"):
        rs2(fraction)


# --- temperature ----------------------------------------------------------------------------------------------------


def test_p_tau_is_the_formula() -> None:
    sizes = torch.tensor([100.0, 4.0, 1.0])
    for tau in (0.5, 1.0, 2.0, 5.0):
        assert torch.allclose(tempered(sizes, tau), sizes.double() ** (1 / tau) / (sizes.double() ** (1 / tau)).sum())
    assert torch.allclose(tempered(sizes, float("inf")), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert tempered(torch.tensor([1e9, 1.0]), 0.01).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("tau", "share"), [(1.0, 5 / 25), (2.0, 1 / 3), (1e9, 1 / 2)])
def test_sources_come_by_p_tau(tau: float, share: float) -> None:
    found = Counter(AB[i] for i in draws(temperature(tau), table(25, sources=AB), 6000)[0])
    assert found["b"] / 6000 == pytest.approx(share, abs=0.03)


def test_each_source_is_walked_without_replacement() -> None:
    uses = Counter(i for d in draws(temperature(5.0), table(25, sources=AB), *[11] * 9) for i in d)
    for group in (range(20), range(20, 25)):
        assert max(uses[i] for i in group) - min(uses[i] for i in group) <= 1


def test_one_source_is_shuffled_passes_over_it() -> None:
    rows, counts = table(10, sources=["a"] * 10), (3, 8, 1, 30)
    assert draws(temperature(7.0), rows, *counts) == draws(shuffled("new"), rows, *counts)


def test_a_cooling_temperature_upsamples_early_only() -> None:
    now = [0]
    begun = temperature(cooldown(early=1e9, late=1.0, switch=0.5)).begin(
        context({"new": table(25, sources=AB)}, progress=lambda: Progress(now[0], 10))
    )
    shares = []
    for now[0] in (4, 5):
        shares.append(sum(i >= 20 for i in begun.draw(6000)["row"].tolist()) / 6000)
    assert shares == pytest.approx([0.5, 0.2], abs=0.03)


def test_a_constant_schedule_is_the_number() -> None:
    fixed, scheduled = (temperature(t) for t in (5.0, cooldown(early=5.0, late=5.0)))
    assert draws(fixed, table(25, sources=AB), 9, 50) == draws(scheduled, table(25, sources=AB), 9, 50)


@pytest.mark.parametrize("sources", [AB, torch.tensor([0] * 20 + [7] * 5), torch.tensor([7] * 20 + [0] * 5)])
@pytest.mark.parametrize("lazy", [False, True])
def test_sources_may_be_names_numbers_or_on_disk(sources: Any, lazy: bool) -> None:
    rows = table(25).having(source=OnDisk(sources) if lazy else sources)
    places = places_by(rows, "source")
    assert sorted(p.tolist() for p in places.values()) == [list(range(20)), list(range(20, 25))]
    assert list(places) == sorted(places)
    assert len(draws(temperature(3.0), rows, 30)[0]) == 30


def test_rows_that_do_not_say_their_source_are_refused() -> None:
    with pytest.raises(RegraftError, match=r"no column 'source'; the rows have \['row', 'x', 'y'\]"):
        temperature().begin(context({"new": table(3)}))
    with pytest.raises(RegraftError, match=r"column 'source' is \[3, 2\]"):
        temperature().begin(context({"new": table(3).having(source=torch.zeros(3, 2))}))
    for tau in (0.0, -1.0):
        with pytest.raises(RegraftError, match="tau is"):
            temperature(tau)


# --- upweighting ----------------------------------------------------------------------------------------------------


def after_one_full_step(rows: Rows) -> dict[str, Tensor]:
    """The weights after one plain step of gradient descent on all rows at once."""
    training = replace(SETTINGS, steps=1, batch=rows.count, optimizer="SGD", lr=1.0)
    return run(PLAIN, {"new": rows}, training)[0]


def test_the_full_gradient_of_both_schemes_is_the_same() -> None:
    rows = table(20, sources=["common"] * 16 + ["rare"] * 4)
    # |D| = 16 and 4: at tau = 2 p is 4 to 2, so each rare row is read twice where a common one is read once.
    upsampled = rows.take(torch.cat([torch.arange(16), torch.arange(16, 20).repeat(2)]))
    p = tempered(torch.tensor([16.0, 4.0]), 2.0)
    assert torch.allclose(p, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
    ours, theirs = after_one_full_step(upweight(tau=2.0)(rows, context())), after_one_full_step(upsampled)
    plain, start = after_one_full_step(rows), model().state()
    for name in start:
        assert torch.allclose(start[name] - ours[name], start[name] - theirs[name], atol=1e-5)
    assert any(not torch.allclose(plain[name], ours[name], atol=1e-3) for name in start)


def test_the_expected_gradient_of_the_sampler_is_that_full_gradient() -> None:
    rows = table(20, sources=["common"] * 16 + ["rare"] * 4)
    start = model().state()
    ours = after_one_full_step(upweight(tau=2.0)(rows, context()))
    drawn = temperature(2.0).begin(context({"new": rows})).draw(20_000)
    uses = drawn["row"].bincount(minlength=20).double()
    sampled = after_one_full_step(rows.having(weight=uses))
    for name in start:
        assert torch.allclose(ours[name], sampled[name], atol=0.01)


def test_the_weights_are_p_tau_over_p_one_and_keep_the_total() -> None:
    rows = upweight(tau=3.0)(table(25, sources=AB), context())
    p_tau = tempered(torch.tensor([20.0, 5.0]), 3.0)
    assert rows["scale"][:20].tolist() == pytest.approx([float(p_tau[0]) / 0.8] * 20)
    assert rows["scale"][20:].tolist() == pytest.approx([float(p_tau[1]) / 0.2] * 5)
    assert float(rows["scale"].sum()) == pytest.approx(25)


def test_upweighting_by_one_is_absence() -> None:
    rows, alone = table(25, sources=AB), table(3, sources=["a"] * 3)
    assert upweight(tau=1.0)(rows, context()) is rows
    assert upweight(tau=9.0)(alone, context()) is alone
    nothing = rows.take(slice(0, 0))
    assert upweight()(nothing, context()) is nothing


@pytest.mark.parametrize("lazy", [False, True])
def test_a_scale_that_rows_have_is_multiplied(lazy: bool) -> None:
    own = torch.linspace(1, 2, 25)
    rows = table(25, sources=AB)
    both = upweight(tau=3.0)(rows.having(scale=OnDisk(own) if lazy else own), context())
    assert torch.allclose(both["scale"], own * upweight(tau=3.0)(rows, context())["scale"])


class Bigram(TorchModel):
    """The next token from the one before, in blocks as a language model reads them."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(nn.Embedding(5, 5).double())

    def read(self, rows: Rows) -> Out:
        return Out(self.runner(rows["input_ids"]), rows["targets"], rows["counts"])

    def sizes(self, rows: Rows) -> Tensor | None:
        return rows["counts"].sum(1)

    def cost(self, rows: Rows) -> int:
        return rows["input_ids"].numel()


def test_upweighted_blocks_scale_each_row_and_leave_the_denominator() -> None:
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 5, (8, 7), generator=dice)
    counts = torch.randint(0, 2, (8, 6), generator=dice).double()
    source = torch.tensor([0] * 6 + [1] * 2)
    blocks = Rows({"input_ids": ids[:, :-1], "targets": ids[:, 1:], "counts": counts, "source": source})
    weighted = upweight(tau=4.0)(blocks, context())
    student = Bigram()
    nll = View(student, blocks, {}).target_nll
    (weighted["scale"][:, None] * nll * counts).sum().div(counts.sum()).backward()
    fit(after := Bigram(), PLAIN, {"new": weighted}, replace(SETTINGS, steps=1, batch=8, optimizer="SGD", lr=1.0))
    assert torch.allclose(after.module.weight, student.module.weight - student.module.weight.grad, atol=1e-12)
