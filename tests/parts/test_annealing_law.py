import math

import numpy as np
import pytest
from part_world import context

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.curves import fit_power_law
from regraft.parts.metrics.annealing_law import Law, LossCurve, annealing_law, areas, fit_law, warmup_steps

STEPS = 600
TIME = np.arange(STEPS)
CONSTANT = np.full(STEPS, 3e-3)
COSINE = 3e-3 * (0.1 + 0.45 * (1 + np.cos(np.pi * TIME / STEPS)))
WSD = np.where(TIME < 480, 3e-3, 3e-3 * 0.05 ** ((TIME - 480) / 120))
TRUE = Law(L0=2.5, A=0.6, C=0.8, alpha=0.45, lam=0.99, error=0.0)


def curve(lrs, law=TRUE, noise=0.0, name="curve"):
    steps = np.arange(10, len(lrs) + 1, 10)
    jitter = np.exp(noise * np.random.default_rng(len(name)).standard_normal(len(steps)))
    return LossCurve.of(lrs, steps, law.predict(lrs)[steps - 1] * jitter, name)


def test_areas_follow_the_recurrence():
    lrs, lam = np.array([3.0, 3.0, 2.0, 4.0, 1.0, 1.0, 0.0]), 0.9
    m, S1, S2, wanted = 0.0, 0.0, 0.0, []
    for i, eta in enumerate(lrs):
        m = lam * m + (lrs[i - 1] - eta if i else 0.0)
        S1, S2 = S1 + eta, S2 + m
        wanted.append((S1, S2))
    np.testing.assert_allclose(np.stack(areas(lrs, lam), 1), wanted, rtol=1e-14)
    direct = sum(sum((lrs[k - 1] - lrs[k]) * lam ** (i - k) for k in range(1, i + 1)) for i in range(len(lrs)))
    assert areas(lrs, lam)[1][-1] == pytest.approx(direct, rel=1e-14)


def test_a_warmup_counts_at_its_peak():
    lrs = np.array([0.0, 1.0, 2.0, 2.0, 1.0])
    assert warmup_steps(lrs) == 2
    for a, b in zip(areas(lrs, 0.9), areas(np.array([2.0, 2.0, 2.0, 2.0, 1.0]), 0.9), strict=True):
        assert np.array_equal(a, b)
    assert warmup_steps(np.array([1.0])) == 0
    assert warmup_steps(CONSTANT) == warmup_steps(COSINE) == 0


@pytest.mark.parametrize("lam", [0.99, (0.9, 0.99, 0.999)])
def test_planted_parameters_are_recovered(lam):
    found = fit_law([curve(CONSTANT), curve(COSINE)], lam=lam)
    for name in ("L0", "A", "C", "alpha", "lam"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-6)
    assert found.error < 1e-12
    np.testing.assert_allclose(found.predict(WSD), TRUE.predict(WSD), rtol=1e-7)


def test_forecasts_a_schedule_never_seen_through_noise_and_outliers():
    curves = [curve(CONSTANT, noise=2e-3), curve(COSINE, noise=2e-3, name="other")]
    curves[0].losses[7] *= 1.5
    full, without = (fit_law(curves, lam=0.99, anneal=anneal) for anneal in (True, False))
    error = [np.abs(law.predict(WSD) / TRUE.predict(WSD) - 1)[100:].max() for law in (full, without)]
    assert error[0] < 0.002
    assert error[0] < error[1] / 5
    assert without.C == 0


def test_no_effect_of_annealing_is_found_as_none():
    flat = Law(L0=2.0, A=1.0, C=0.0, alpha=0.5, lam=0.99, error=0.0)
    found = fit_law([curve(CONSTANT, flat), curve(COSINE, flat)], lam=0.99)
    assert pytest.approx(0, abs=1e-6) == found.C
    np.testing.assert_allclose(found.predict(WSD), flat.predict(WSD), rtol=1e-6)


def test_points_in_the_warmup_and_before_after_are_left_out():
    lrs = np.concatenate([np.linspace(1e-4, 3e-3, 50), COSINE])
    bent = curve(lrs)
    bent.losses[bent.steps <= 49] = 9.0
    assert pytest.approx(TRUE.L0, rel=1e-5) == fit_law([bent], lam=0.99).L0
    bent.losses[bent.steps <= 100] = 9.0
    assert pytest.approx(TRUE.L0, rel=1e-5) == fit_law([bent], lam=0.99, after=100).L0


def test_constant_losses():
    found = fit_law([LossCurve.of(COSINE, [10, 50, 200, 400, 600], [3.0] * 5)])
    np.testing.assert_allclose(found.predict(WSD), 3.0, rtol=1e-9)


def test_the_power_law_does_not_depend_on_units():
    x = np.geomspace(1e-3, 1e3, 40)
    y = 1.5 + 0.3 * x**-0.35
    for scale_x, scale_y in [(1, 1), (1e9, 1e-6), (1e-8, 1e5)]:
        found = fit_power_law(x * scale_x, y * scale_y)
        assert found.exponent == pytest.approx(0.35, rel=1e-6)
        assert found.floor == pytest.approx(1.5 * scale_y, rel=1e-6)
        np.testing.assert_allclose(found(x * scale_x), y * scale_y, rtol=1e-8)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(RegraftError, match=r"^run 3: losses: entry 1 is nan"):
        LossCurve.of(CONSTANT, [1, 2], [2.0, math.nan], "run 3")
    with pytest.raises(RegraftError, match="the run's length"):
        LossCurve.of(CONSTANT, [STEPS + 1], [2.0])
    with pytest.raises(RegraftError, match="not vectors of one length"):
        LossCurve.of(CONSTANT, [1, 2], [2.0])
    with pytest.raises(RegraftError, match="1 points cannot tell 4 parameters"):
        fit_law([LossCurve.of(COSINE, [600], [2.0])])
    with pytest.raises(RegraftError, match="0 points"):
        fit_law([])
    with pytest.raises(RegraftError, match="C cannot be told"):
        fit_law([curve(CONSTANT)])
    with pytest.raises(RegraftError, match="positive"):
        fit_law([LossCurve.of(COSINE, [100, 200, 300, 400], [2.0, 1.0, 0.0, -1.0])])
    for rates in ([], [0.0, 0.0, 1.0], [1.0, -1.0], [[1.0]]):
        with pytest.raises(RegraftError, match=r"rate|lrs"):
            TRUE.predict(rates)


def test_reads_the_engines_records():
    records = [{"step": 0.0, "held/old": 3.0}, {"step": 5.0, "nll": 2.0}, {"step": 10.0, "held/old": 2.5}]
    found = LossCurve.of_records(records, CONSTANT, "held/old")
    assert found.steps.tolist() == [0, 10]
    assert found.losses.tolist() == [3.0, 2.5]


def test_the_metric_forecasts_every_run():
    runs = [curve(CONSTANT, name="constant"), curve(COSINE, name="cosine"), LossCurve.of(WSD, [], [], "wsd")]
    columns = ("name", "lrs", "steps", "losses")
    rows = Rows({c: [vars(r)[c] for r in runs] for c in columns})
    found = annealing_law(lam=0.99)(None, context({"runs": rows}))
    assert found.numbers["final/wsd"] == pytest.approx(TRUE.predict(WSD)[-1], rel=1e-6)
    assert [len(found.tables["forecast"][r.name]) for r in runs] == [STEPS] * 3
    with pytest.raises(RegraftError, match="two runs have one name"):
        annealing_law()(None, context({"runs": rows.take([0, 0])}))
