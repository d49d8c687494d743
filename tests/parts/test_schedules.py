"""Linear decay, refinement from gradient norms, cooldown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from part_world import PLAIN, SETTINGS, STEPS, context, resumed, run, same

from regraft.core.errors import RegraftError
from regraft.core.parts import Progress, Schedule
from regraft.core.plan import Plan
from regraft.numerics.refinement import refine
from regraft.parts.gradients.gradient_norms import gradient_norms
from regraft.parts.schedules.constant import constant
from regraft.parts.schedules.cooldown import cooldown
from regraft.parts.schedules.linear import linear
from regraft.parts.schedules.refined import refined


def curve(part: Schedule, steps: int, memory: dict | None = None) -> list[float]:
    f = part.begin(context(steps=steps, memory=memory))
    return [f(Progress(t, steps)) for t in range(steps)]


def norms(values: object, norm: str = "l2") -> dict:
    return {"gradient_norms": {"norm": norm, "values": torch.as_tensor(values)}}


def test_linear_falls_in_a_straight_line_from_one_and_never_rests() -> None:
    assert curve(linear(), 5) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_linear_rises_first_where_it_is_told_to() -> None:
    assert curve(linear(warmup=0.4), 10) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert curve(linear(warmup=1.0), 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert curve(linear(), 1) == [1.0]


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_constant_norms_give_linear_decay(steps: int, norm: str) -> None:
    refined_curve = curve(refined(), steps, norms(torch.full((steps,), 3.7), norm))
    assert refined_curve == pytest.approx(curve(linear(), steps), abs=1e-6)


def test_norms_of_a_run_of_another_length_are_stretched() -> None:
    assert curve(refined(), 40, norms(torch.ones(7))) == pytest.approx(curve(linear(), 40), abs=1e-6)
    G = np.geomspace(10, 1, 50)
    short, long = refine(G, 50, power=-1, width=0.1), refine(G, 200, power=-1, width=0.1)
    assert long.reshape(50, 4).mean(1) == pytest.approx(short, abs=3 / 50)  # w_{T+1} is one step of either run


def test_a_spike_of_norms_at_the_start_gives_a_warmup() -> None:
    G = torch.ones(200)
    G[:10] = 20.0
    f = curve(refined(), 200, norms(G))
    assert f[0] < 0.01
    assert max(f) == 1.0
    assert np.argmax(f) < 20
    assert f[100:] == pytest.approx([f[100] * (200 - t) / 100 for t in range(100, 200)], abs=1e-6)


def test_rising_norms_at_the_end_give_a_faster_decay() -> None:
    G = torch.ones(200)
    G[150:] = torch.linspace(1, 4, 50)
    f, line = curve(refined(), 200, norms(G)), curve(linear(), 200)
    assert all(f[t] < line[t] for t in range(160, 200))


def test_one_wild_norm_is_filtered_out() -> None:
    G = torch.ones(200)
    G[77] = 1e4
    assert curve(refined(), 200, norms(G)) == pytest.approx(curve(linear(), 200), abs=1e-6)
    assert curve(refined(width=0.0), 200, norms(G))[77] < 1e-6


def test_the_power_follows_from_the_recorded_norm() -> None:
    G = np.array([2.0, 1.0])
    assert refine(G, 2, power=-2, width=0) == pytest.approx(np.array([0.25 * 2, 1.0]) / 1.0)
    assert curve(refined(width=0), 2, norms(G, "l2")) == pytest.approx([0.5, 1.0])
    assert curve(refined(width=0), 2, norms(G, "l1")) == pytest.approx([1.0, 1.0])


def test_refined_says_how_to_record_what_it_needs() -> None:
    with pytest.raises(RegraftError, match=r"memory has \['fisher'\].*Run once with gradient_norms.*'l1' for Adam"):
        refined().begin(context(memory={"fisher": 1}))


@pytest.mark.parametrize("G", [[0.0] * 9, [float("nan")] * 9, [float("inf")] * 9, []])
def test_norms_that_mean_nothing_are_refused(G: list[float]) -> None:
    with pytest.raises(RegraftError, match="gradient norm"):
        refined().begin(context(memory=norms(G)))


def test_a_width_that_is_no_part_is_refused() -> None:
    with pytest.raises(RegraftError, match="width is 5"):
        refined(width=5)


def test_a_run_is_refined_by_the_run_before_it(tmp_path: Path) -> None:
    _, first = run(PLAIN + Plan(gradients=(gradient_norms("l1"),)))
    plan = PLAIN + Plan(lr=refined())
    weights, fitted = run(plan, memory=first.memory)
    rates = [r["lr"] / SETTINGS.lr for r in fitted.curve]
    assert rates == pytest.approx(curve(refined(), STEPS, first.memory))
    assert same(weights, resumed(plan, tmp_path, 7, memory=first.memory)[0])


def test_cooldown_steps_down_or_glides() -> None:
    assert curve(cooldown(switch=0.5), 4) == [5, 5, 1, 1]
    assert curve(cooldown(switch=0.5, gradual=True), 4) == [5, 3, 1, 1]
    assert curve(cooldown(early=9, late=2, switch=0.0), 3) == [2, 2, 2]
    assert curve(cooldown(switch=1.0), 3) == [5, 5, 5]


def test_a_schedule_that_stays_at_one_is_absence() -> None:
    plain, flat = run(PLAIN)[0], run(PLAIN + Plan(lr=constant()))[0]
    assert same(plain, flat)
    assert same(plain, run(PLAIN + Plan(lr=cooldown(early=1.0, late=1.0)))[0])


@pytest.mark.parametrize("at", [1, 2, 9, STEPS])
def test_linear_goes_on_where_it_stopped(tmp_path: Path, at: int) -> None:
    plan = PLAIN + Plan(lr=linear(warmup=0.2))
    assert same(run(plan)[0], resumed(plan, tmp_path, at)[0])
    assert not same(run(plan)[0], run(plan, training=replace(SETTINGS, lr=0.04))[0])
