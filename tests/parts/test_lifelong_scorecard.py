import math
from dataclasses import replace

import numpy as np
import pytest
from part_world import context

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.lifelog import Block, normalise, smooth
from regraft.parts.metrics.lifelong_scorecard import lifelong_scorecard, scorecard

FULL = {"a": (1.0, 101.0), "b": (1.0, 101.0), "c": (1.0, 101.0)}


def learned(task, values):
    return Block.of("learning", task, values)


def evaluated(task, *values):
    return Block.of("evaluation", task, values)


def close(found, **wanted):
    assert {k: found[k] for k in wanted} == pytest.approx(wanted, abs=1e-6)


def test_perfect_memory_and_total_forgetting():
    life = [learned("a", [1, 80]), evaluated("a", 80), learned("b", [1, 60]), evaluated("a", 80), evaluated("b", 60)]
    close(scorecard(life, ranges=FULL).tasks["a"], maintenance=0)
    assert "maintenance" not in scorecard(life, ranges=FULL).tasks["b"]
    life[3] = evaluated("a", 1, 1)
    close(scorecard(life, ranges=FULL).lifetime, maintenance=-79)


def test_maintenance_is_measured_from_the_latest_learning():
    life = [evaluated("a", 5), learned("a", [1, 50]), evaluated("a", 50), evaluated("a", 40)]
    life += [learned("a", [1, 90]), evaluated("a", 90), evaluated("a", 70), evaluated("a", 85)]
    close(scorecard(life, ranges=FULL).lifetime, maintenance=(-10 - 20 - 5) / 3)


def test_transfer_forward_and_backward():
    life = [evaluated("b", 20), learned("a", [1, 50]), evaluated("a", 50), evaluated("b", 40)]
    life += [learned("b", [1, 60]), evaluated("a", 75), evaluated("b", 60)]
    found = scorecard(life, ranges=FULL)
    close(found.pairs["a > b"], forward_transfer=1 / 3, forward_ratio=2)
    close(found.pairs["b > a"], backward_transfer=0.2, backward_ratio=1.5)
    close(found.lifetime, forward_transfer=1 / 3, forward_ratio=2, backward_transfer=0.2, backward_ratio=1.5)


def test_transfer_is_credited_to_one_task_or_to_none():
    life = [evaluated("c", 20), learned("a", [1, 50]), learned("b", [1, 50]), evaluated("c", 40)]
    assert scorecard(life, ranges=FULL).pairs == {}
    life = [evaluated("c", 20), learned("c", [1, 50]), learned("a", [1, 50]), evaluated("c", 40)]
    assert scorecard(life, ranges=FULL).pairs == {}


def ramp(top, until, length):
    """Rises in even steps to `top` at index `until`, and stays."""
    return 1 + (top - 1) * np.minimum(np.arange(length) / until, 1)


def test_against_an_expert_by_hand():
    # 14 experiences: too few to be smoothed.
    life, expert = [learned("a", ramp(81, 5, 14))], ramp(81, 10, 14)
    close(
        scorecard(life, [learned("a", expert)], ranges=FULL).lifetime,
        sample_efficiency=2,
        relative_performance=ramp(81, 5, 14).sum() / expert.sum(),
    )
    close(scorecard(life, [learned("a", expert[:6])], ranges=FULL).lifetime, relative_performance=6 * 41 / (6 * 21))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_plateaus_begin_where_they_begin_whatever_the_rounding(offset):
    # Windows of 100 reach 50 places back: the whole window is on the plateau that much later.
    def plateau(until):
        return offset + np.minimum(np.arange(1000) / until, 1) / 3

    life = [learned("a", plateau(until)) for until in (150, 300, 150)]
    close(scorecard(life[:1], [learned("a", plateau(300))]).lifetime, sample_efficiency=350 / 200)
    close(scorecard(life).lifetime, recovery_time=(350 + 200) / 2, performance_recovery=150)


def test_half_the_saturation_and_several_experts():
    life = [learned("a", ramp(41, 5, 10))]
    both = scorecard(life, [learned("a", ramp(top, 5, 10)) for top in (81, 41)], ranges=FULL).lifetime
    close(both, sample_efficiency=(41 / 81 + 1) / 2)


def test_learning_blocks_of_a_task_are_one_curve_to_the_expert():
    whole = ramp(71, 9, 14)
    parts = [learned("a", whole[:6]), learned("b", [1, 2]), learned("a", whole[6:])]
    found = scorecard(parts, [learned("a", ramp(71, 6, 14))], ranges=FULL).tasks["a"]
    close(found, sample_efficiency=6 / 9, relative_performance=whole.sum() / ramp(71, 6, 14).sum())


def test_efficiency_is_zero_where_performance_falls_or_stays_low():
    expert = [learned("a", ramp(101, 5, 10))]
    falling = [1, 90, *np.linspace(80, 5, 8)]
    close(scorecard([learned("a", falling)], expert, ranges=FULL).lifetime, sample_efficiency=0)
    close(scorecard([learned("a", ramp(20, 5, 10))], expert, ranges=FULL).lifetime, sample_efficiency=0)
    assert "sample_efficiency" not in scorecard([learned("a", [5, 5, 5])], expert, ranges=FULL).lifetime


def test_recovery_gets_faster():
    def relearned(after):
        return learned("a", [*np.linspace(1, 50, after), *[80] * (12 - after)])

    life = [learned("a", [80] * 10), relearned(8), learned("b", [1, 2]), relearned(6), relearned(1)]
    found = scorecard(life, ranges=FULL).tasks["a"]
    # Theil-Sen of (8, 6, 1): the slopes are -2, -5 and -3.5.
    close(found, recovery_time=5, performance_recovery=3.5)


def test_never_recovered_takes_the_block_and_one_more():
    life = [learned("a", [*[1] * 9, 90]), learned("a", [1, 2, 3, 4])]
    found = scorecard(life, ranges=FULL).lifetime
    close(found, recovery_time=5)
    assert "performance_recovery" not in found


def noise_life(seed=3):
    dice = np.random.default_rng(seed)
    life = [evaluated(t, *dice.normal(size=3)) for t in "ab"]
    for i, task in enumerate("ababab"):
        life.append(learned(task, np.linspace(0, 2 + i, 50) + dice.normal(size=50)))
        life += [evaluated(t, *dice.normal(1 + i, 0.2, size=3)) for t in "ab"]
    return life, [learned("a", np.linspace(0, 5, 40) + dice.normal(size=40)), learned("b", np.linspace(0, 4, 60))]


@pytest.mark.parametrize(("scale", "offset"), [(1000.0, -7.0), (1e-3, 400.0), (-2.0, 5.0)])
def test_no_affine_change_of_the_raw_metric_changes_a_value(scale, offset):
    life, experts = noise_life()
    plain = scorecard(life, experts)
    life, experts = ([replace(b, performance=scale * b.performance + offset) for b in each] for each in (life, experts))
    moved = scorecard(life, experts, better="higher" if scale > 0 else "lower")
    assert len(plain.lifetime) == 9
    assert moved.lifetime == pytest.approx(plain.lifetime, abs=1e-6)
    for pair, each in plain.pairs.items():
        assert moved.pairs[pair] == pytest.approx(each, abs=1e-6)


def test_smoothing_is_a_centred_mean_mirrored_at_the_ends():
    x = np.random.default_rng(0).normal(size=25)
    padded = np.concatenate([x[1:3][::-1], x, x[-3:-1][::-1]])
    np.testing.assert_allclose(smooth(x), np.convolve(padded, np.ones(5) / 5, mode="valid"), atol=1e-12)
    assert np.array_equal(smooth(x[:14]), x[:14])
    assert smooth(np.arange(1000.0)).shape == (1000,)


def test_the_scale_runs_from_the_tenth_to_the_ninetieth_percentile():
    [found] = normalise([evaluated("a", *range(11))], higher=True)
    np.testing.assert_allclose(found.performance, [1, *np.linspace(1, 101, 9), 101])
    [turned] = normalise([evaluated("a", *range(11))], higher=False)
    np.testing.assert_allclose(turned.performance, found.performance[::-1])
    [constant] = normalise([evaluated("a", 4, 4)], higher=True)
    assert constant.performance.tolist() == [1, 1]
    [lower] = normalise([evaluated("a", 2, 4)], higher=False, ranges={"a": (0, 4)})
    assert lower.performance.tolist() == [51, 1]


def test_odd_logs():
    assert scorecard([]).lifetime == {}
    assert scorecard([evaluated("a", 1)]).tasks == {"a": {}}
    found = scorecard([learned("a", [3])], [learned("a", [3]), learned("z", [1, 2])])
    assert found.lifetime == {"relative_performance": 1}


def test_bad_input():
    with pytest.raises(RegraftError, match=r"^log: performance on 'a': entry 1 is nan"):
        Block.of("learning", "a", [1, math.nan], where="log")
    with pytest.raises(RegraftError, match="not 'sleep'"):
        Block.of("sleep", "a", [1])
    with pytest.raises(RegraftError, match="no list of performances"):
        Block.of("learning", "a", [])


def test_the_metric_reads_rows():
    life, experts = noise_life()
    log = Rows({c: [vars(b)[c] for b in life] for c in ("kind", "task", "performance")})
    expert = Rows({c: [vars(b)[c] for b in experts] for c in ("task", "performance")})
    wanted = scorecard(life, experts)
    found = lifelong_scorecard(experts="ste")(None, context({"log": log, "ste": expert}))
    assert found.numbers == pytest.approx(wanted.lifetime)
    assert found.tables == {"tasks": wanted.tasks, "pairs": wanted.pairs}
    assert "sample_efficiency" not in lifelong_scorecard()(None, context({"log": log})).numbers
    with pytest.raises(RegraftError, match=r"^log, row 0: a block is"):
        lifelong_scorecard()(None, context({"log": log.having(kind=["x"] * log.count)}))
