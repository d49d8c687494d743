from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from regraft.core.errors import RegraftError
from regraft.numerics.paired import (
    Estimate,
    MeanDifference,
    NetRate,
    Rate,
    holm,
    items_for_rate,
    items_needed,
    mcnemar,
    mcnemar_power,
    mean_difference,
    smallest_mean_change,
    smallest_net_change,
)


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("name", "truth"), [("normal", 0.0), ("exponential", 1.0), ("lognormal", math.exp(0.125)), ("student", 0.0)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_nominal_95_percent_covers_93_to_97_percent_at_30_items(name: str, truth: float, weighted: bool) -> None:
    rng, runs, n = dice(1), 1000, 30
    draw = {
        "normal": lambda: rng.normal(size=n),
        "exponential": lambda: rng.exponential(size=n),
        "lognormal": lambda: rng.lognormal(0, 0.5, n),
        "student": lambda: rng.standard_t(3, n),
    }[name]
    missed = 0
    for _ in range(runs):
        weights = rng.lognormal(0, 0.5, n) if weighted else None
        found = mean_difference(draw(), weights, rng=rng, resamples=600)
        missed += not found.lower(0.975) <= truth <= found.upper(0.975)
    assert 0.93 <= 1 - missed / runs <= 0.97


def test_the_estimate_is_the_weighted_mean() -> None:
    d, w = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0])
    assert mean_difference(d, w, rng=dice()).estimate == pytest.approx(11 / 4)


def test_items_of_weight_zero_do_not_enter() -> None:
    d, w = dice().normal(size=40), np.ones(40)
    w[::2] = 0
    with_them, without = mean_difference(d, w, rng=dice(3)), mean_difference(d[1::2], rng=dice(3))
    assert (with_them.estimate, with_them.error, with_them.n) == (without.estimate, without.error, 20)
    assert with_them.lower(0.95) == without.lower(0.95)


def test_same_dice_same_bits() -> None:
    d = dice().normal(size=50)
    first, second = (mean_difference(d, rng=dice(5)) for _ in range(2))
    assert first.lower(0.9) == second.lower(0.9)
    assert first.p_above(0.1) == second.p_above(0.1)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_values_of_any_magnitude(scale: float, offset: float) -> None:
    d = dice().normal(size=30) + offset
    plain, scaled = mean_difference(d, rng=dice(1)), mean_difference(d * scale, rng=dice(1))
    assert scaled.upper(0.95) / scale == pytest.approx(plain.upper(0.95), rel=1e-9)


def test_turning_the_sign_swaps_the_bounds() -> None:
    d = dice().normal(size=9)
    found, turned = mean_difference(d, rng=dice()), mean_difference(-d, rng=dice())
    assert found.pivots is None
    assert found.lower(0.9) == pytest.approx(-turned.upper(0.9))
    assert found.p_above(0.3) == pytest.approx(turned.p_below(-0.3))


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("level", [0.9, 0.975])
def test_bounds_and_p_values_of_a_mean_agree(n: int, level: float) -> None:
    found = mean_difference(dice(n).exponential(size=n), rng=dice())
    low, high = found.lower(level), found.upper(level)
    nudge = 1e-9
    assert found.p_above(low - nudge) <= 1 - level < found.p_above(low + nudge)
    assert found.p_below(high + nudge) <= 1 - level < found.p_below(high - nudge)


def test_equal_differences_have_no_spread_but_a_sign_test() -> None:
    found = mean_difference(np.full(12, 0.1), rng=dice())
    assert (found.estimate, found.error) == (0.1, 0.0)
    assert (found.lower(0.95), found.upper(0.95)) == (0.1, 0.1)
    assert found.p_above(0.0) == 0.5**12
    assert found.p_below(0.0) == 1.0
    same = mean_difference(np.zeros(12), rng=dice())
    assert same.p_above(0.0) == same.p_below(0.0) == 1.0


@pytest.mark.parametrize("moved", [1, 2, 29])
def test_mostly_tied_differences_stay_finite(moved: int) -> None:
    d = np.zeros(30)
    d[:moved] = 0.3
    found = mean_difference(d, rng=dice())
    assert -1 < found.lower(0.975) < found.estimate < found.upper(0.975) < 1


@pytest.mark.parametrize(
    ("differences", "weights", "says"),
    [
        ([1.0, math.nan], None, "not a finite number"),
        ([1.0, math.inf], None, "not a finite number"),
        ([1.0, 2.0], [1.0, math.nan], "not a finite number"),
        ([1.0, 2.0], [1.0, -1.0], "negative"),
        ([1.0, 2.0], [0.0, 0.0], "0 items"),
        ([], None, "0 items"),
        ([1.0], None, "1 items"),
        ([1.0, 2.0], [1.0], "one length"),
        ([1.0, 2.0], [1.0, 1e-300], "all the weight"),
    ],
)
def test_what_has_no_answer_says_so(differences: list[float], weights: list[float] | None, says: str) -> None:
    w = None if weights is None else np.array(weights)
    with pytest.raises(RegraftError, match=says):
        mean_difference(np.array(differences), w, rng=dice())


def test_many_items_use_students_t() -> None:
    found = mean_difference(dice().normal(size=20_001), rng=dice())
    assert found.pivots is None
    assert found.upper(0.975) - found.lower(0.975) == pytest.approx(2 * 1.96 * found.error, rel=1e-3)


def test_rate_bounds_are_clopper_pearson() -> None:
    for count, n in [(0, 10), (3, 50), (50, 50)]:
        exact = stats.binomtest(count, n).proportion_ci(0.9)
        assert (Rate(count, n).lower(0.95), Rate(count, n).upper(0.95)) == pytest.approx((exact.low, exact.high))
    assert Rate(3, 50).p_above(0.02) == pytest.approx(stats.binom.sf(2, 50, 0.02))
    assert Rate(3, 50).p_below(0.2) == pytest.approx(stats.binom.cdf(3, 50, 0.2))


def test_no_flip_at_one_percent_needs_368_items() -> None:
    assert items_for_rate(0.01, confidence=0.975) == 368
    assert items_for_rate(0.01, confidence=0.95) == 299
    for count in (1, 5):
        n = items_for_rate(0.01, confidence=0.95, count=count)
        assert Rate(count, n).upper(0.95) <= 0.01 < Rate(count, n - 1).upper(0.95)
    with pytest.raises(RegraftError):
        items_for_rate(0.0, confidence=0.95)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_flips_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(RegraftError):
        NetRate(*counts)


@pytest.mark.parametrize("n", [10, 25])
@pytest.mark.parametrize("net", [-0.05, 0.0, 0.01, 0.2])
def test_the_test_of_a_net_rate_is_exact(n: int, net: float) -> None:
    """Chance of a false finding, summed over every outcome, whatever share of the items flips."""
    outcomes = [(b, c) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n]
    above = np.array([NetRate(b, c, n).p_above(net) for b, c in outcomes])
    below = np.array([NetRate(b, c, n).p_below(net) for b, c in outcomes])
    cells = np.array([(b, c, n - b - c) for b, c in outcomes])
    for either in np.linspace(max(abs(net), 1e-9), 1, 41):
        chance: NDArray[np.float64] = stats.multinomial.pmf(
            cells, n, [(either + net) / 2, (either - net) / 2, 1 - either]
        )
        for alpha in (0.05, 0.01):
            assert chance[above <= alpha].sum() <= alpha
            assert chance[below <= alpha].sum() <= alpha


def test_net_rate_bounds_mirror_and_hold_the_estimate() -> None:
    for plus, minus, n in [(0, 0, 10), (10, 0, 10), (0, 10, 10), (20, 25, 1000), (1, 0, 1), (3000, 2900, 100_000)]:
        net, turned = NetRate(plus, minus, n), NetRate(minus, plus, n)
        assert -1 <= net.lower(0.95) <= net.estimate <= net.upper(0.95) <= 1
        assert net.lower(0.95) == -turned.upper(0.95)
    assert NetRate(0, 0, 299).p_below(0.01) <= 0.05 + 1e-3
    assert NetRate(100, 0, 2000).lower(0.95) > 0.04


def test_mcnemar_is_the_sign_test_of_the_flips() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(6, 0) == 2 * 0.5**6
    assert mcnemar(3, 9) == mcnemar(9, 3) == stats.binomtest(3, 12).pvalue


def test_mcnemar_power_is_what_simulation_finds() -> None:
    n, change, against = 400, 0.05, 0.02
    flips = dice().multinomial(n, [change, against, 1 - change - against], size=2000)
    seen = np.mean([b > c and mcnemar(b, c) <= 0.05 for b, c, _ in flips.tolist()])
    assert mcnemar_power(n, change, against, alpha=0.05) == pytest.approx(seen, abs=0.04)
    assert mcnemar_power(10, 0.0, 0.0, alpha=0.05) == 0.0


def test_smallest_net_change_has_the_power_it_states() -> None:
    for n, churn in [(50, 0.0), (1000, 0.02), (50_000, 0.1)]:
        net = smallest_net_change(n, churn)
        assert net is not None
        assert mcnemar_power(n, churn + net, churn, alpha=0.05) == pytest.approx(0.8, abs=1e-3)
    assert smallest_net_change(5, 0.0) is None
    assert smallest_net_change(10, 0.5) is None


def test_smallest_mean_change_has_the_power_it_states() -> None:
    rng, n = dice(), 25
    change = smallest_mean_change(1 / math.sqrt(n), n)
    assert change is not None
    samples = rng.normal(change, 1, size=(4000, n))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05).mean() == pytest.approx(0.8, abs=0.03)
    assert smallest_mean_change(0.0, 25) is None
    assert smallest_mean_change(1.0, 1) is None


def test_items_needed_is_the_first_number_that_decides() -> None:
    def kept(estimate: Estimate) -> bool:
        return estimate.p_below(0.1) <= 0.05

    now = MeanDifference(0.0, 0.2, 30)
    n = items_needed(now, kept)
    assert n is not None
    assert kept(now.at(n))
    assert not kept(now.at(n - 1))
    assert items_needed(MeanDifference(0.1, 0.2, 30), kept) is None


def test_holm() -> None:
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
